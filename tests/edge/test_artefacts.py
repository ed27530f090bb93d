"""The reader of structured files: every damage is one line that names the file and the place."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass, replace
from typing import Annotated

import pytest
from msgspec import Meta

from rrid_edge.artefacts import LARGE_BYTES, SMALL_BYTES, Artefact
from rrid_edge.errors import ModelFileError


@dataclass(frozen=True)
class Point:
    rate: Annotated[float, Meta(gt=0, lt=1)]
    score: float | None = None


@dataclass(frozen=True)
class Points:
    format: int
    name: str
    points: tuple[Point, ...]


POINTS = Artefact("points", Points, "measure them again", ModelFileError, newest_format=2)
GOOD = {"format": 2, "name": "a", "points": [{"rate": 0.5}, {"rate": 0.25, "score": 1}]}


def test_sound_json_and_toml_are_read(tmp_path):
    (tmp_path / "points.json").write_text(json.dumps({**GOOD, "new": 1}), encoding="utf-8")
    (tmp_path / "points.toml").write_text('format = 2\nname = "a"\npoints = [{rate = 0.5}]\n', encoding="utf-8")
    assert POINTS.read(tmp_path / "points.json") == Points(2, "a", (Point(0.5), Point(0.25, 1.0)))
    assert POINTS.read(tmp_path / "points.toml") == Points(2, "a", (Point(0.5),))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[" * 200_000, "recursion"),
        ('{"x":' * 5_000 + "1" + "}" * 5_000, "recursion"),
        ("[]", "object"),
        (json.dumps({**GOOD, "format": "2"}), "int"),
        (json.dumps({**GOOD, "format": 3}), "update rrid-edge"),
        (json.dumps({**GOOD, "points": [{"rate": 1.5}]}), "points[0].rate"),
        (json.dumps({**GOOD, "points": [{"rate": "0.5"}]}), "points[0].rate"),
        (json.dumps({**GOOD, "points": [{}]}), "rate"),
        (json.dumps({**GOOD, "points": {"a": 1}}), "points"),
        (json.dumps({**GOOD, "format": 10**400}), "more than 64 bits at format"),
        (json.dumps({**GOOD, "points": [{"rate": 10**30}]}), "more than 64 bits at points[0].rate"),
        (json.dumps({**GOOD, "points": [{"rate": float("nan")}]}), "malformed"),
        ('{"format":2,"name":"a","points":[{"rate":0.5,"score":1e999}]}', "out of range"),
        (json.dumps({**GOOD, "name": "\x1b[31m"}).replace('"format": 2', '"format": true'), "format"),
        (b'{"format":2,"name":"\xff","points":[]}', "utf-8"),
    ],
    ids=lambda value: None if not isinstance(value, str) or len(value) > 20 else value or "empty",
)
def test_each_damage_is_one_line_that_names_the_file(tmp_path, text, reason):
    path = tmp_path / "points.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelFileError) as caught:
        POINTS.read(path)
    assert str(path) in caught.value.message
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400 + len(str(path))


def test_names_that_are_no_utf8_are_read_as_python_writes_them(tmp_path):
    path = tmp_path / "points.json"
    path.write_text(json.dumps({**GOOD, "name": "\udcff.jpg"}), encoding="utf-8")
    assert POINTS.read(path).name == "\udcff.jpg"
    assert POINTS.parse('{"format":2,"name":"\udcff","points":[]}', where="x").name == "\udcff"
    deep = '{"format":2,"name":"\\udcff","points":' + "[" * 100_000
    for text in (deep, '{"format":2,"name":"\\udcff","points":[{"rate":NaN}]}', '{"name":"\\udcff"'):
        with pytest.raises(ModelFileError, match=r"^x: damaged points"):
            POINTS.parse(text, where="x")


@pytest.mark.parametrize("digits", ["0x" + "f" * 10_000, "[[0b" + "1" * 50_000 + "]]", "-18446744073709551616"])
def test_toml_has_no_numbers_that_python_cannot_print(tmp_path, digits):
    path = tmp_path / "points.toml"
    path.write_text(f'format = 1\nname = "a"\npoints = []\nextra = {digits}\n', encoding="utf-8")
    with pytest.raises(ModelFileError, match="more than 64 bits at extra"):
        POINTS.read(path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "[nan]"])
def test_toml_has_no_infinite_numbers(tmp_path, value):
    path = tmp_path / "points.toml"
    path.write_text(f'format = 1\nname = "a"\npoints = []\nextra = {value}\n', encoding="utf-8")
    with pytest.raises(ModelFileError, match="finite"):
        POINTS.read(path)


def test_special_and_oversized_files_are_refused_unread(tmp_path):
    with (tmp_path / "large.json").open("wb") as stream:
        stream.truncate(SMALL_BYTES + 1)
    for path in (tmp_path / "large.json", tmp_path):
        with pytest.raises(ModelFileError):
            POINTS.read(path)
    for path in (tmp_path / "none.json", tmp_path / "large.json" / "none.json"):  # a file is no folder
        with pytest.raises(FileNotFoundError):
            POINTS.read(path)


def test_lists_of_a_dataset_may_be_large_but_not_all_brackets(tmp_path):
    large = replace(POINTS, most_bytes=LARGE_BYTES)
    path = tmp_path / "points.json"
    text = json.dumps({**GOOD, "name": "x" * (SMALL_BYTES + 1)})
    path.write_text(text, encoding="utf-8")
    assert len(large.read(path).name) == SMALL_BYTES + 1
    with pytest.raises(ModelFileError, match="4,194,3"):
        POINTS.read(path)
    path.write_text(f'{{"format": 2, "name": "a", "points": [], "x": [{"[]," * 2_000_001}[]]}}', encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"damaged points \(2,000,00. lists and objects"):
            large.read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
