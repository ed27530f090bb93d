"""A folder with what newcomers mistake for something else, and what a mistake must end with."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from rrid_edge.engines.fake import fake_spec
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import save_crops
from support.sharing import made_once


def make_desk(desk: Path) -> None:
    """Fill a folder: crops in ``gallery``, models, and files of other kinds."""
    crops = save_crops(desk / "gallery", 8)
    shutil.copy(crops[0], desk / "query.jpg")
    save_tiny_model(desk / "models" / "rrid.onnx")
    other = fake_spec().with_precision("fp32")
    save_tiny_model(desk / "other.onnx", type(other)(**{**vars(other), "fingerprint": "f" * 64}), seed=1)
    (desk / "empty").mkdir()
    (desk / "renamed").mkdir()
    (desk / "renamed" / "words.jpg").write_bytes(b"hello")
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (desk / "data" / "market" / part).mkdir(parents=True)
    (desk / "file").write_text("here\n")
    whole = (desk / "query.jpg").read_bytes()
    contents = {
        "note.txt": b"hello",
        "renamed.jpg": b"hello",
        "paper.pdf": b"%PDF-1.4\n",
        "phone.heic": b"\0\0\0\x18ftypheic",
        "door.mp4": b"\0\0\0\x18ftypisom",
        "logo.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "cut.jpg": whole[: len(whole) // 2],
        "net.pth": b"PK\x03\x04" + bytes(60),
        "cut.onnx": (desk / "models" / "rrid.onnx").read_bytes()[:1000],
    }
    for name, content in contents.items():
        (desk / name).write_bytes(content)
    with zipfile.ZipFile(desk / "crops.zip", "w") as archive:
        archive.write(desk / "query.jpg", "a.jpg")


@pytest.fixture
def desk(tmp_path_factory, tmp_path, monkeypatch):
    """Return a copy of the folder, which is the current one."""
    shutil.copytree(made_once(tmp_path_factory, "desk-of-mistakes", make_desk), tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    return tmp_path / "desk"


def _files(desk):
    """All files and folders, also hidden ones, and what is in them. SQLite makes and removes files of its own."""
    return {
        str(path.relative_to(desk)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in desk.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


def ends_with(arguments, code, line):
    """One command ends with ``code`` and ``line`` (``...``: any words), and changes no files."""
    before = _files(Path())
    outcome = rrid_edge(*arguments)
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    expected = re.escape(f"rrid-edge: {line}").replace(re.escape("..."), ".+")
    assert re.fullmatch(expected, outcome.err.splitlines()[-1]), outcome.err
    assert _files(Path()) == before
