"""Pictures of answers of adopted networks, whose descriptor has one block and no stripes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from rrid_edge.matching import Match, MatchResult
from rrid_edge.model.spec import ADOPTED_BLOCKS, block_names
from rrid_edge.pictures.contact_sheet import CROP_PX, contact_sheet
from rrid_edge.pictures.html import html_report
from rrid_edge.pictures.parts import finest_stripes, part_bars
from rrid_edge.pictures.sheet_bars import AGAINST_COLOUR, FOR_COLOUR, NAMES_PX

STRIPES = block_names()
COLOURS = ((250, 0, 250), (0, 250, 250), (250, 250, 0))
BAR_SPACE = 37
"""Pixels of a bar of parts and its margin: 34 and 3."""


@pytest.fixture
def gallery(tmp_path):
    for place, colour in enumerate((*COLOURS, (1, 2, 250))):
        Image.new("RGB", (64, 128), colour).save(tmp_path / f"{place}.png")
    return tmp_path


def _answer(gallery, blocks: int) -> MatchResult:
    """Three matches, with all of the score in the first block."""
    matches = (
        Match(
            rank,
            0.9 / rank,
            f"{rank - 1}.png",
            block_scores=_shares(0.9 / rank, blocks),
            contrasts=(3.0 / rank,) * blocks,
        )
        for rank in (1, 2, 3)
    )
    return MatchResult((str(gallery / "3.png"),), tuple(matches))


def _shares(score: float, blocks: int) -> tuple[float, ...]:
    return (score, *[0.0] * (blocks - 1))


def _columns(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((np.asarray(image) == colour).all(axis=2).any(axis=0))


def test_the_block_of_the_whole_body_is_no_stripe():
    assert finest_stripes(ADOPTED_BLOCKS) == ()
    found = MatchResult(("q.jpg",), (Match(1, 0.5, "a.jpg", block_scores=(0.5,), contrasts=(2.0,)),))
    assert part_bars(found, ADOPTED_BLOCKS) == ((),)


def test_a_sheet_has_no_bars_and_no_room_for_them(gallery):
    one = contact_sheet([_answer(gallery, 1)], gallery, block_names=ADOPTED_BLOCKS)
    many = contact_sheet([_answer(gallery, len(STRIPES))], gallery, block_names=STRIPES)
    assert len(_columns(many, FOR_COLOUR)) > 0
    assert len(_columns(one, FOR_COLOUR)) == len(_columns(one, AGAINST_COLOUR)) == 0
    assert many.height - one.height == 14  # the legend
    assert many.width - one.width == NAMES_PX + 3 * BAR_SPACE
    starts = [[int(_columns(sheet, colour).min()) for colour in COLOURS] for sheet in (one, many)]
    (step,), (wide_step,) = (set(np.diff(places).tolist()) for places in starts)
    assert CROP_PX[0] + 8 < step == wide_step - BAR_SPACE
    for colour in COLOURS:
        assert len(_columns(one, colour)) == CROP_PX[0]


def test_a_report_has_no_column_of_parts(gallery):
    one = html_report([_answer(gallery, 1)], gallery, block_names=ADOPTED_BLOCKS)
    many = html_report([_answer(gallery, len(STRIPES))], gallery, block_names=STRIPES)
    body = one.split("</style>")[1].split("<script>")[0].lower()
    assert "part" not in body
    assert "stripe" not in body
    rows = [re.findall(r"<tr.*?</tr>", page, re.DOTALL) for page in (one, many)]
    assert [[len(re.findall(r"<t[dh]", row)) for row in found] for found in rows] == [[6] * 4, [7] * 4]
