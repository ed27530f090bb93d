"""The Python programs of README.md and docs/python.md run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import rrid_edge
from rrid_edge.machine.processor import computes_bf16
from support.onnx_models import save_tiny_model
from support.programs import ROOT, furnish, furnish_video, programs_of


def _run(page, folder, monkeypatch, capsys) -> list[str]:
    """What each program of a page prints; they run in order, in one folder."""
    furnish(folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    printed = []
    for number, program in enumerate(programs_of(page), 1):
        exec(compile(program, f"{page.name}, program {number}", "exec"), {"__name__": "__main__"})
        printed.append(capsys.readouterr().out)
    return printed


def test_the_programs_of_the_python_page(tmp_path, monkeypatch, capsys):
    page = ROOT / "docs" / "python.md"
    ranks, frames, people, thresholds, descriptors, *others = _run(page, tmp_path, monkeypatch, capsys)
    proof, measures, suggested, fake = others
    lines = ranks.splitlines()
    assert lines[0] == "12 crops, 12 of them new"
    assert lines[1].split()[:6] == ["1", "1.000", "camera", "1", "person", "0001"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, 11))
    found, forgotten = frames.splitlines()[:2], frames.splitlines()[2]
    assert [line.split()[0] for line in found] == ["1", "2"]
    assert found[0].split()[1:] == ["1.000", "1", "lobby", "17", "Ann"]
    assert found[1].split()[3:] == ["lobby", "18", "None"]
    assert forgotten == "1 row forgotten, 1 exported"
    assert people.splitlines()[0].startswith("models/rrid.onnx: ")
    assert len(people.splitlines()) == 3
    assert "_c3" not in people.split("[", 1)[1]
    rates = [float(rate) for rate in re.findall(r"FPIR (\S+) \(asked 0.1\)", thresholds)]
    assert len(rates) == 3
    assert all(0.1 / 1.5 < rate < 0.15 for rate in rates)
    assert descriptors.count("(240,) float32") == 12
    verdict, *reasons = proof.splitlines()
    assert verdict == ("not decided" if computes_bf16() else "passed")  # 12 crops are too few to judge bf16
    assert [re.sub(".*: ", "", reason) for reason in reasons] == ["give at least 59 crops"] * computes_bf16()
    assert [line.split()[0] for line in measures.splitlines()] == ["cosine", "re-ranked"]
    assert suggested.splitlines() == [
        "12 crops compared, threshold estimated",
        "person 1: Ann",
        "1 crop got the name, 1 lost it",
        "['Ann']",
    ]
    assert fake.startswith("exit code 2: images of dtype float32")


@pytest.fixture
def video_folder(tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    furnish_video(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tracker_of_the_readme(video_folder, capsys):
    (program,) = programs_of(ROOT / "README.md")
    assert len(program.splitlines()) <= 12
    expected = sorted([(frame, 1) for frame in range(8)] + [(frame, 2) for frame in range(2, 8)])
    for _ in range(2):  # the second run finds the people of the first
        exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
        printed = re.findall(r"^frame (\d+): person (\d+)$", capsys.readouterr().out, re.MULTILINE)
        assert [(int(frame), int(person)) for frame, person in printed] == expected
    with rrid_edge.open_gallery("people") as gallery:
        assert [(row.id, row.camera, row.frame, row.origin) for row in gallery] == [
            (1, "door", 0, "memory"),
            (2, "door", 2, "memory"),
        ]


@pytest.mark.slow
def test_the_tracker_of_the_readme_passes_a_strict_type_checker(tmp_path):
    pytest.importorskip("av")
    (program,) = programs_of(ROOT / "README.md")
    (tmp_path / "tracker.py").write_text(program)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\nexplicit_package_bases = true\n")
    options = ["--config-file", "mypy.ini", "--follow-imports", "silent"]
    cache = ROOT / ".mypy_cache" / "readme"  # NumPy's types take most of the time; mypy reads again what changed
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(cache), "tracker.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_a_page_has_programs(page):
    assert programs_of(ROOT / page)
