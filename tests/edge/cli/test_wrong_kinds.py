"""A file of another kind where a model or a checkpoint is expected: one line says what it is, and what was expected."""

from __future__ import annotations

import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.file_kinds import kind_of_file, what_is
from support.commands import rrid_edge
from support.datasets import write_dataset
from support.foreign import ForeignFile
from support.mistakes import desk, ends_with

__all__ = ["desk"]
HOW_MADE = "make one with: rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a network of another program"
KINDS = {
    "query.jpg": "a JPEG picture",
    "picture.png": "a PNG picture",
    "picture.webp": "a WEBP picture",
    "note.txt": "a text file",
    "table.csv": "a text file",
    "facts.json": "a JSON file",
    "page.onnx": "a web page or an XML file",
    "pointer.onnx": "a Git LFS pointer in place of its file (git lfs pull fetches it)",
    "zeros.onnx": "a file that starts with zeros only; its writing was not finished, perhaps",
    "crops.zip": "a ZIP archive",
    "crops.rar": "an archive (RAR or 7z)",
    "crops.tgz": "compressed data (gzip)",
    "door.mp4": "a video (MP4 or QuickTime)",
    "paper.pdf": "a PDF document",
    "phone.heic": "a HEIF picture (HEIC)",
    "array.npy": "arrays of NumPy",
}
"""Files that are no model, and what they are."""
WEIGHTS = ("net.pth", "weights.safetensors", "weights", "renamed.onnx")
"""Checkpoints; a name without an ending, or with a wrong one, hides none."""


@pytest.fixture
def kinds(desk):
    """The folder with one file of every kind."""
    Image.new("RGB", (8, 16)).save("picture.png")
    Image.new("RGB", (8, 16)).save("picture.webp")
    texts = {
        "table.csv": "frame,x1,y1,x2,y2\n0,1,2,3,4\n",
        "facts.json": '{"model": 1}\n',
        "page.onnx": "<!DOCTYPE html>\n<html></html>\n",
        "pointer.onnx": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    }
    for name, text in texts.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("zeros.onnx").write_bytes(bytes(4096))
    Path("crops.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    np.save("array.npy", np.zeros(3))
    with tarfile.open("crops.tgz", "w:gz") as archive:
        archive.add("query.jpg")
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    safetensors = struct.pack("<Q", len(head)) + head + bytes(4)
    for name in ("weights.safetensors", "weights", "renamed.onnx"):
        Path(name).write_bytes(safetensors)
    return desk


def test_commands_say_what_is_no_model(kinds):
    for name, kind in KINDS.items():
        ends_with(["info", name], 4, f"{name}: this is {kind}, not an ONNX file; {HOW_MADE}")
        assert kind_of_file(Path(name)) == kind
    for name in WEIGHTS:
        line = f"{name}: this is a checkpoint, not an ONNX file; make one with: rrid-edge export {name}"
        ends_with(["info", name], 4, line)


@pytest.mark.parametrize(
    "words",
    [
        "match query.jpg gallery --model NAME",
        "index gallery --model NAME",
        "parity NAME",
        "bench --model NAME",
        "calibrate NAME --images gallery",
        "adopt NAME --preset torchreid",
        "engine adopt lone.engine --onnx NAME",
        "embed-many --no-ray --input gallery --gallery g --model NAME",
    ],
)
def test_every_command_that_takes_a_model_says_it(kinds, words):
    Path("lone.engine").write_bytes(b"ftrt")
    remedy = "export the network again from its own program" if words.startswith("adopt") else HOW_MADE
    for name in ("picture.png", "facts.json"):
        line = f"{name}: this is {KINDS[name]}, not an ONNX file; {remedy}"
        ends_with(words.replace("NAME", name).split(), 4, line)


def test_commands_on_an_indexed_gallery_say_it_too(kinds):
    pytest.importorskip("uvicorn")
    assert rrid_edge("index", "gallery").code == 0
    for words in ("match query.jpg gallery --model query.jpg", "serve gallery --model query.jpg"):
        ends_with(words.split(), 4, f"query.jpg: this is a JPEG picture, not an ONNX file; {HOW_MADE}")


def test_other_artefacts_of_a_model_are_named(kinds):
    for name, kind in (
        ("rrid.parity.json", "a parity report"),
        ("rrid.thresholds.json", "a file of thresholds"),
        ("rrid.engine.json", "a model's sidecar"),
        ("rrid.goldens.npz", "a file of goldens"),
    ):
        Path(name).write_text("{}")
        ends_with(
            ["info", name], 4, f"{name}: this is {kind}, not an ONNX file; give the ONNX file of its network, ..."
        )
    ends_with(
        ["info", "gallery"],
        4,
        "gallery: this folder is no gallery (it has no .rrid-edge); expected a folder that was indexed, a Milvus "
        "address, or a model file; make one with: rrid-edge index gallery",
    )
    Path("lone.engine").write_bytes(b"ftrt")
    ends_with(
        ["info", "lone.engine"], 4, "lone.engine.json: there is no such file; lone.engine needs this sidecar: ..."
    )


@pytest.mark.parametrize(
    "words",
    ["export NAME", "evaluate NAME --dataset tiny", "parity models/rrid.onnx --reference NAME --images gallery"],
)
def test_commands_say_what_is_no_checkpoint(kinds, words):
    write_dataset(Path("tiny"))
    for name in ("query.jpg", "note.txt", "facts.json", "door.mp4"):
        given = f"{name}.pth"
        Path(given).write_bytes(Path(name).read_bytes())
        line = f"{given}: this is {KINDS[name]}, not a checkpoint; expected weights of PyTorch: give ..."
        ends_with(words.replace("NAME", given).split(), 4, line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("export gallery", "gallery: this is a folder, expected a checkpoint; give a file of rrid-edge train or ..."),
        (
            "adopt gallery --preset torchreid",
            "gallery: this is a folder; expected a model file: give one, or export ...",
        ),
        ("calibrate gallery --images gallery", "gallery: this is a folder; expected a model file: give one, or ..."),
        ("info pipe", "pipe: this is no ordinary file, expected a model file (given); this folder holds ..."),
        ("info /dev/null", "/dev/null: this is no ordinary file, expected a model file (given); make one with: ..."),
        ("doctor query.jpg", "query.jpg: a JPEG picture is no model: expected an ONNX file, an engine or an ..."),
        (
            "train --resume query.jpg",
            "query.jpg: this is a file; expected the folder of a run, which holds last.state.pt ...",
        ),
    ],
)
def test_what_is_no_file_at_all(kinds, words, line):
    os.mkfifo("pipe")
    ends_with(words.split(), 2, line)


def test_a_damaged_foreign_file_is_exported_again_from_its_own_program(kinds):
    """Also where the header is whole, and only a node or a weight claims a false size."""
    content = ForeignFile().write(Path("foreign.onnx")).read_bytes()
    name = content.index(b"\x42\x04stem")  # of the first weight, in the middle of its message
    for position in (*range(20, name, 9), *range(name - 12, name + 9)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        Path("foreign.onnx").write_bytes(damaged)
        outcome = rrid_edge("adopt", "foreign.onnx", "--preset", "torchreid", "-o", "out")
        if outcome.code:  # a changed letter of a name may harm nothing
            assert outcome.code == 4, (position, outcome)
            assert outcome.err.endswith("; export the network again from its own program\n"), outcome.err


def test_text_is_text_where_its_end_is_cut():
    assert what_is("Köln".encode()[:2]) == "a text file"
    assert what_is("ab€".encode()[:-1]) == "a text file"
    assert what_is(b"ab\xff\xfeabcdefgh") is None
    assert what_is(b"  \n") is None
    assert what_is(b"ab\0cd") is None
    assert what_is(b'\xef\xbb\xbf {"a": 1}') == "a JSON file"
