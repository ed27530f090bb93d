"""JSON of any file name is read by strict parsers, and gives the bytes of the name back."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess

import msgspec
import pytest

from rrid_edge.artefacts import Artefact
from rrid_edge.files import write_json
from rrid_edge.json_text import json_text, name_of_text, text_of_name

NAMES = (
    b"plain.jpg",
    b"latin1_\xe9\xff.jpg",
    b"\x80",
    "\u00e9 \u4eba \U0001f9cd \u202e".encode(),
    "private \uefe9 \uef80 \uefff \uef7f \uf000".encode(),
    "private \uefe9".encode() + b"\xe9",
    b"\xed\xb3\xa9.jpg",  # half of a surrogate pair, as some programs write it
    b'new\nline\x1b[31m\x7f"\\.jpg',
    b"\xf0\x9f\xa7",
)


def read_back(text):
    return os.fsencode(name_of_text(text))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_read_back_from_strict_json(name):
    printed = json_text({"path": os.fsdecode(name), os.fsdecode(name): [1]}).encode("utf-8")
    for parse in (json.loads, msgspec.json.decode):
        found = parse(printed)
        assert read_back(found["path"]) == name
        assert read_back(next(key for key in found if key != "path")) == name


def test_two_names_never_share_a_text_and_usual_names_stay_as_they_are():
    draw = random.Random(1)
    alphabet = [b"\xe9", b"\xee", b"\xbe", b"\x80", b"\xef", b"\xa9", b"a", b"/"]
    names = {b"".join(draw.choices(alphabet, k=draw.randrange(6))) for _ in range(3000)} | {*NAMES}
    texts = {text_of_name(os.fsdecode(name)) for name in names}
    assert len(texts) == len(names)
    assert {read_back(text) for text in texts} == names
    for name in ("a.jpg", "caf\u00e9", "back\\\\slash \\\\udce9", "%e9", "\U0001f9cd"):
        assert text_of_name(name) == name_of_text(name) == name


def test_jq_reads_it():
    if (jq := shutil.which("jq")) is None:
        pytest.skip("jq is not installed")
    printed = json_text({"path": os.fsdecode(NAMES[1])})
    found = subprocess.run(
        [jq, "-r", ".path"], input=printed, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert read_back(found.stdout.rstrip("\n")) == NAMES[1]


def test_numbers_that_json_has_not_become_null():
    value = {"a": [float("nan"), 1.5], "b": (float("inf"), {"c": -float("inf")}), "d": True, "e": 3}
    assert json_text(value) == '{"a": [null, 1.5], "b": [null, {"c": null}], "d": true, "e": 3}'
    assert json_text("\ud800") == '"\ufffd"'


def test_a_file_that_is_written_is_read_with_the_same_name(tmp_path):
    names = [os.fsdecode(name) for name in NAMES]
    write_json(tmp_path / "a.json", names)
    artefact = Artefact("list of names", list[str], "write it again")
    assert artefact.read(tmp_path / "a.json") == names
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))[1] == "latin1_\uefe9\uefff.jpg"
