"""Folders and files that this user may not write or read: one line, the documented code, and the rest of the work done.

All commands run in one process without the powers of root, in a folder that has one of everything.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.commands import rrid_edge
from support.datasets import write_dataset
from support.foreign import ForeignFile
from support.mistakes import make_desk
from support.without_powers import of_another_user, of_this_user, run_without_powers

UNWRITABLE = "cannot be written (Permission denied); give a path on a writable file system with free space"
INDEX = "the index cannot be written (Permission denied); make it writable, or name another location (option --gallery)"
NEW_INDEX = "the index cannot be written (Permission denied); make the folder writable, or name another location"
ENTER = (
    "this user may not enter this folder: expected read permission for all files of an index; ask its owner, who can "
    "create it with a mode for a group"
)
UNREADABLE = "cannot be read (Permission denied); make it readable"
REFUSED = {
    "index theirs": (2, f"theirs/.rrid-edge: {NEW_INDEX} (option --gallery)"),
    "match query.jpg theirs": (2, f"theirs/.rrid-edge: {NEW_INDEX} (option --gallery)"),
    "index indexed": (2, f"indexed/.rrid-edge: {INDEX}"),
    "gallery compact indexed": (2, f"indexed/.rrid-edge: {INDEX}"),
    "gallery forget indexed --person 1": (2, f"indexed/.rrid-edge: {INDEX}"),
    "gallery retention indexed --keep 3d": (2, f"indexed/.rrid-edge: {INDEX}"),
    "gallery copy indexed locked/copy": (2, f"locked/copy/.rrid-edge: {NEW_INDEX}"),
    "gallery export indexed --output locked/e.npz": (2, f"locked/e.npz: {UNWRITABLE}"),
    "match query.jpg indexed --sheet locked/s.png": (2, f"locked/s.png: {UNWRITABLE}"),
    "match query.jpg indexed --report locked/new/r.html": (2, f"locked/new/r.html: {UNWRITABLE}"),
    "demo-data locked/demo": (
        2,
        "locked/demo: cannot be written (Permission denied); give a folder on a writable file system with free space",
    ),
    "train --dataset-path tiny --exp-dir locked/run": (2, f"locked/run/config.json: {UNWRITABLE}"),
    "export net.pth --output locked": (2, f"locked: {UNWRITABLE}"),
    "adopt foreign.onnx --preset torchreid --folder locked": (2, f"locked/foreign.onnx: {UNWRITABLE}"),
    "calibrate models/rrid.onnx --images tiny --output locked/i.onnx": (2, f"locked/i.onnx: {UNWRITABLE}"),
    "parity models/rrid.onnx --output locked/p.json": (2, f"locked/p.json: {UNWRITABLE}"),
    "evaluate models/rrid.onnx --dataset tiny --sheets locked/sheets": (2, f"locked/sheets: {UNWRITABLE}"),
    "help --man locked/man1": (2, f"locked/man1: {UNWRITABLE}"),
    "embed-many --no-ray --input theirs --gallery locked/g --model models/rrid.onnx": (
        2,
        f"locked/g: {NEW_INDEX} (option --gallery)",
    ),
    "index shut": (2, f"shut: {UNREADABLE}, or give another one"),
    "match shut indexed": (
        2,
        "shut: this folder cannot be read (Permission denied); make it readable; give query images",
    ),
    "embed-many --no-ray --input shut --gallery g --model models/rrid.onnx": (
        2,
        "shut: this folder cannot be read (Permission denied); make it readable; expected crops (JPEG, PNG, BMP, WebP, "
        "TIFF, PPM (PGM, PBM) or GIF) or tables (option --input)",
    ),
    "match shut.jpg indexed": (2, "shut.jpg: permission denied; make the file readable"),
    "index theirs --model shut.onnx": (2, f"shut.onnx: {UNREADABLE}, or give another one"),
    "info shut.onnx": (
        2,
        f"shut.onnx: {UNREADABLE}, or export it with: rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a "
        "network of another program (argument MODEL)",
    ),
    "export shut.pth": (2, f"shut.pth: {UNREADABLE}"),
    "gallery list sealed": (4, f"sealed/.rrid-edge: {ENTER}"),
    "match query.jpg sealed": (4, f"sealed/.rrid-edge: {ENTER}"),
    "index sealed": (4, f"sealed/.rrid-edge: {ENTER}"),
    "serve sealed": (4, f"sealed/.rrid-edge: {ENTER}"),
    "info sealed": (4, f"sealed/.rrid-edge: {ENTER}"),
}
"""Commands, and their exit codes and lines."""
WORKING = (
    "match query.jpg indexed --top-k 1",
    "match query.jpg grown --top-k 1",
    "gallery list indexed",
    "gallery verify indexed",
    "gallery export indexed --output e.npz",
    "gallery copy indexed copy",
    "info indexed",
    "match query.jpg theirs --gallery elsewhere --top-k 1",
    "index mixed --json",
    "match query.jpg mixed --top-k 1 --sheet s.png --report r.html",
    "match mixed indexed --top-k 1 --json",
    "index nested --json",
)
"""Commands that work, with what they may not write or read beside them."""


def _make(desk: Path) -> None:
    """Fill a folder, and give some of it to another user."""
    make_desk(desk)
    write_dataset(desk / "tiny")
    ForeignFile().write(desk / "foreign.onnx")
    assert rrid_edge("index", desk / "gallery", "--model", desk / "models" / "rrid.onnx").code == 0
    for name in ("indexed", "grown", "sealed"):
        shutil.copytree(desk / "gallery", desk / name)
    shutil.copy(desk / "query.jpg", desk / "grown" / "0009_c1s1_000900_00.jpg")
    shutil.rmtree(desk / "gallery" / ".rrid-edge")
    for name in ("theirs", "mixed", "nested", "nested/inner", "shut"):
        shutil.copytree(desk / "gallery", desk / name)
    (desk / "locked").mkdir()
    for name in ("shut.jpg", "shut.onnx", "shut.pth"):
        shutil.copy(desk / "query.jpg", desk / name)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each command printed, and what is in the folder afterwards."""
    desk = tmp_path_factory.mktemp("desk")
    _make(desk)
    for name in ("indexed", "grown", "theirs", "locked"):
        of_another_user(desk / name)
    closed = ["shut", "shut.jpg", "shut.onnx", "shut.pth", "sealed/.rrid-edge", "nested/inner"]
    closed.append(f"mixed/{min(path.name for path in (desk / 'mixed').iterdir())}")
    for name in closed:
        of_another_user(desk / name, readable=False)
    commands = [*REFUSED, *WORKING]
    found = run_without_powers([command.split() for command in commands], desk)
    for name in ("indexed", "grown", "theirs", "locked", *closed):
        of_this_user(desk / name)
    return dict(zip(commands, found, strict=True)), desk


@pytest.mark.parametrize("words", REFUSED)
def test_a_command_that_may_not(outcomes, words):
    code, line = REFUSED[words]
    outcome = outcomes[0][words]
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert outcome.err.splitlines()[-1] == f"rrid-edge: {line}"


def test_what_belongs_to_others_is_untouched(outcomes):
    desk = outcomes[1]
    assert list((desk / "locked").iterdir()) == []
    assert not (desk / "theirs" / ".rrid-edge").exists()
    assert not (desk / "g").exists()
    crops = sorted(path.name for path in (desk / "gallery").iterdir())
    for name in ("indexed", "theirs"):
        assert sorted(path.name for path in (desk / name).glob("*.jpg")) == crops


def test_a_gallery_that_may_only_be_read_answers(outcomes):
    found = outcomes[0]
    for words in WORKING:
        assert found[words].code == 0, (words, found[words])
    answer = found["match query.jpg indexed --top-k 1"].out.splitlines()[-1]
    assert answer.endswith("0001_c1s1_000000_00.jpg")
    for words in ("match query.jpg grown --top-k 1", "match query.jpg theirs --gallery elsewhere --top-k 1"):
        assert found[words].out.splitlines()[-1] == answer
    assert (
        "grown/.rrid-edge: the index cannot be written (Permission denied); make it writable, or name another "
        "location; searching the 8 crops that are committed\n1 new or changed files are not in the index yet\n"
    ) in found["match query.jpg grown --top-k 1"].err
    assert found["gallery verify indexed"].out == "8 rows, 0 damaged\n"
    assert found["gallery copy indexed copy"].out.startswith("copy: 8 crops (8 copied")


def test_one_unreadable_file_stops_no_other(outcomes):
    found = outcomes[0]
    report = json.loads(found["index mixed --json"].out)
    assert (report["added"], len(report["failed"])) == (7, 1)
    assert "0001_c1s1_000000_00.jpg: permission denied; make the file readable" in found["index mixed --json"].err
    assert len(json.loads(found["match mixed indexed --top-k 1 --json"].out)["results"]) == 7
    nested = json.loads(found["index nested --json"].out)
    assert nested["added"] == 8
    assert "left out nested/inner: this folder cannot be read (Permission denied)" in found["index nested --json"].err
