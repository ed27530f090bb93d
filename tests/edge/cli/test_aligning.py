"""Columns stay below each other with names of wide, combining and escaped letters, in every table that shows names."""

from __future__ import annotations

import io
import random
import sys
import textwrap
import unicodedata

import pytest
from rich.cells import cell_len

from rrid_edge.cli.aligning import columns_of, left, right, widest, wrapped
from rrid_edge.ranking.labels import LabelNames
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise

NAMES = {
    "door": 4,
    "": 0,
    "玄関": 4,
    "Eingang Süd": 11,
    unicodedata.normalize("NFD", "Süd"): 3,
    "현관": 4,
    unicodedata.normalize("NFD", "현관"): 4,
    "ｶﾒﾗ": 3,  # narrow kana
    "\uff23\uff21\uff2d": 6,  # wide Latin letters
    "кухня": 5,
    "กล้อง": 4,
}
"""Texts, and the columns that a terminal takes for them."""
CAMERAS = ("door", "玄関", "Südeingang am Parkhaus", "현관")


@pytest.mark.parametrize(("text", "columns"), NAMES.items())
def test_columns_of_names(text, columns):
    assert columns_of(text) == columns == cell_len(text)  # as rich draws them
    assert columns_of(right(text, 20)) == columns_of(left(text, 20)) == 20
    assert right(text, 0) == left(text, 0) == text


def test_the_widest_text_and_the_least_width():
    assert widest(["a", "玄関"]) == 4
    assert widest(["a"], 3) == 3
    assert widest([]) == 0


def test_letters_that_stdout_does_not_have_are_counted_as_their_escapes(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert columns_of("玄") == len(r"\u7384")


def test_lines_of_ascii_are_broken_as_textwrap_breaks_them():
    draw = random.Random(0)
    for _ in range(300):
        text = " ".join("x" * draw.randint(1, 9) for _ in range(draw.randint(1, 12)))
        columns = draw.randint(1, 30)
        assert wrapped(text, columns) == textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False), (
            text,
            columns,
        )


def test_lines_of_wide_letters_fit():
    assert wrapped("玄関 玄関 玄関", 9) == ["玄関 玄関", "玄関"]


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """A gallery whose cameras are folders with names of many scripts."""
    monkeypatch.chdir(tmp_path)
    for number, camera in enumerate(CAMERAS):
        (tmp_path / "gallery" / camera / "人物").mkdir(parents=True)
        for shot in range(2):
            noise(10 * number + shot).save(tmp_path / "gallery" / camera / "人物" / f"{shot}.png")
    noise(0).save(tmp_path / "query.png")
    save_tiny_model(tmp_path / "rrid.onnx")
    outcome = rrid_edge("index", "gallery", "--model", "rrid.onnx", "--pattern", "camera-folders")
    assert outcome.code == 0, outcome


def _places(lines, marks):
    """Columns of the terminal at which each line's mark ends."""
    return {columns_of(line[: line.rindex(mark)]) for line, mark in zip(lines, marks, strict=True)}


def test_tables_of_match_and_of_gallery_list(gallery):
    found = rrid_edge("match", "query.png", "gallery", "--top-k", 8).out.splitlines()[1:]
    paths = [line.split("  ")[-1] for line in found]
    assert len(found) == 9
    assert {camera for camera in CAMERAS if any(camera in line for line in found)} == set(CAMERAS)
    assert len(_places(found, paths)) == 1
    listed = rrid_edge("gallery", "list", "gallery").out.splitlines()
    assert len(listed) == 8
    assert len(_places(listed, [line.split("  ")[-1] for line in listed])) == 1


def test_the_table_of_pairs_of_cameras(monkeypatch):
    from rrid_edge.cli.evaluate import _print_cameras
    from rrid_edge.ranking.metrics import CameraPair

    shown: list[str] = []
    monkeypatch.setattr("rrid_edge.cli.evaluate.show", shown.append)
    pairs = [
        CameraPair(query_camera=a, gallery_camera=b, queries=7, mean_ap=0.5, rank_1=1.0) for a, b in ((0, 1), (2, 3))
    ]
    _print_cameras(pairs, LabelNames(cameras=dict(enumerate(CAMERAS))))
    assert len(shown) == 3
    assert len({columns_of(line) for line in shown}) == 1
