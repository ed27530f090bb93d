"""The Python programs of README.md and docs/python.md run as they stand."""

from __future__ import annotations

import pytest

from support.programs import ROOT, furnish, programs_of


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
    ranks, people, descriptors, proof, measures, fake = _run(ROOT / "docs" / "python.md", tmp_path, monkeypatch, capsys)
    lines = ranks.splitlines()
    assert lines[0] == "12 crops, 12 of them new"
    assert lines[1].split()[:6] == ["1", "1.000", "camera", "1", "person", "0001"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, 11))
    assert people.splitlines()[0].startswith("models/rrid.onnx: ")
    assert len(people.splitlines()) == 3
    assert "_c3" not in people.split("[", 1)[1]
    assert descriptors.count("(240,) float32") == 12
    assert proof == "passed\n"
    assert [line.split()[0] for line in measures.splitlines()] == ["cosine", "re-ranked"]
    assert fake.startswith("exit code 2: images of dtype float32")


def test_the_program_of_the_readme(tmp_path, monkeypatch, capsys):
    (ranks,) = _run(ROOT / "README.md", tmp_path, monkeypatch, capsys)
    assert ranks.splitlines()[0] == "12 crops"
    assert ranks.splitlines()[1].split()[:2] == ["1", "1.000"]


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_a_page_has_programs(page):
    assert programs_of(ROOT / page)
