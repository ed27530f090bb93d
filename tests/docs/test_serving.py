"""The programs and commands of docs/serving.md run against a service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.serve.support import make_gallery, running, service_on
from rrid_edge.cli.app import COMMANDS
from rrid_edge.serve.metrics import Metrics
from support.pictures import save_crops
from support.programs import ROOT, programs_of

PAGE = ROOT / "docs" / "serving.md"
TEXT = PAGE.read_text("utf-8")
TOKEN = "0123456789abcdef0123456789abcdef"


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


CALLS = [block for block in _blocks("bash") if block.startswith("curl -sS")]


@pytest.fixture
def reid(tmp_path, monkeypatch):
    """A service with tokens, and a folder with what the page names."""
    crops = save_crops(tmp_path / "cut", 3)
    shutil.copy(make_gallery(tmp_path / "gallery", 12) / crops[0].name, tmp_path / "query.jpg")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"admin {TOKEN} desk\n")
    tokens.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", TOKEN)
    with service_on(tmp_path, {"gallery": 12}, token_file=tokens) as service, running(service) as address:
        monkeypatch.setenv("REID", address)
        yield service


def _curl(block):
    done = subprocess.run(["bash", "-ec", block], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_commands(reid):
    uploaded, crop, listed, pushed, forgotten, followed = map(_curl, CALLS)
    matches = json.loads(uploaded)["matches"]
    assert [match["rank"] for match in matches] == [1, 2, 3]
    assert matches[0]["path"] == "0001_c1s1_000000_00.jpg"
    assert 1 not in [match["id"] for match in json.loads(crop)["matches"]]
    assert len(json.loads(listed)["crops"]) == 2
    assert Path("crop.jpg").read_bytes() == Path("query.jpg").read_bytes()
    found = json.loads(pushed)
    assert (found["camera"], found["time"], found["track"]) == ("door", "2026-11-26T10:00:00.000000Z", "17")
    assert json.loads(forgotten)["ids"] == [2]
    assert followed.startswith(": following")
    assert 2 not in [row.id for row in reid.gallery(None).store.rows()]


def test_the_programs(reid, capsys):
    printed = []
    for number, program in enumerate(programs_of(PAGE), 1):
        exec(compile(program, f"serving.md, program {number}", "exec"), {"__name__": "__main__"})
        printed.append(capsys.readouterr().out.splitlines())
    found, pushed = printed
    assert len(found) == 3
    assert all(re.fullmatch(r"\d  \d\.\d{3}  camera [23]  000\d  \S+\.jpg", line) for line in found), found
    assert [line.split(": ")[0] for line in pushed] == [path.name for path in sorted(Path("cut").glob("*.jpg"))]
    rows = {row.id: row for row in reid.gallery(None).store.rows()}
    crops = [rows[int(line.split()[-1])] for line in pushed]
    assert [(row.camera, row.track, row.origin) for row in crops] == [
        ("door", str(number), "memory") for number in range(3)
    ]
    exec(compile(programs_of(PAGE)[1], "again", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == pushed


def test_the_page_shows_the_units_as_they_are():
    shown = _blocks("ini")
    files = ("rrid-edge-serve.service", "rrid-edge-index@.service", "serve.conf")
    assert shown == [(ROOT / "deploy" / "systemd" / name).read_text("utf-8") for name in files]


def test_the_page_names_every_metric_that_there_is():
    text = Metrics().text()[0].decode()
    own = set(re.findall(r"^# TYPE (rrid_edge_\w+) ", text, re.MULTILINE))
    told = set(re.findall(r"`(rrid_edge_\w+)", TEXT))
    assert {name for name in own if not name.endswith("_created")} <= told


def test_the_options_of_the_page_are_those_of_the_command():
    import typer

    from rrid_edge.cli.app import app, register

    assert "serve" in COMMANDS
    register("serve")
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"rrid-edge serve[^`\n]*?(--[\w-]+)", TEXT)) | set(
        re.findall(r"^\| `(--[\w-]+)", TEXT, re.MULTILINE)
    )
    assert named <= known
