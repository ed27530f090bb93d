"""Bars of the parts of the body on contact sheets and in HTML reports: lengths, names, mark and legend."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rrid_edge.errors import UsageError
from rrid_edge.matching import Match, MatchResult
from rrid_edge.matching.contrast import UsualBlock, region_of
from rrid_edge.matching.separation import Separation
from rrid_edge.model.spec import block_names
from rrid_edge.pictures.contact_sheet import contact_sheet
from rrid_edge.pictures.html import html_report
from rrid_edge.pictures.parts import FEW_OTHERS, LENGTHS, MARKS, NEARER, finest_stripes, part_bars
from rrid_edge.pictures.sheet_bars import AGAINST_COLOUR, BAR_PX, BLANK, FOR_COLOUR, INK

NAMES = block_names()
USUAL = tuple(UsualBlock(name, region_of(name), 0.1, 0.01) for name in NAMES)
FIRST, SECOND = (3.0, 2.0, 1.0, 0.5, 2.5, 3.0), (2.5, -1.0, 1.0, 0.5, 2.5, 3.0)
CROP = (250, 0, 250)


def _contrasts(*stripes: float) -> tuple[float, ...]:
    """Contrasts of the six finest stripes; the other blocks have 9, which no bar may show."""
    return (*stripes, *([9.0] * (len(NAMES) - 6)))


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (64, 128), CROP).save(tmp_path / "a.png")
    Image.new("RGB", (64, 128), (1, 2, 250)).save(tmp_path / "query.png")
    return tmp_path


@pytest.fixture
def result(folder) -> MatchResult:
    scores = (0.06,) * len(NAMES)
    matches = tuple(
        Match(rank, 0.9, "a.png", block_scores=scores, contrasts=_contrasts(*stripes))
        for rank, stripes in enumerate((FIRST, SECOND), 1)
    )
    marked = Separation("stripe-2-of-6", "torso", 3.0, clear=True)
    return MatchResult((str(folder / "query.png"),), matches, blocks=USUAL, others=20, separation=marked)


def _rows_of(image: Image.Image, colour: tuple[int, int, int], columns: slice = slice(None)) -> list[int]:
    """Pixels of a colour in each row of some columns."""
    return (np.asarray(image)[:, columns] == colour).all(axis=2).sum(axis=1).tolist()


def _bars_of(sheet: Image.Image) -> list[tuple[int, int]]:
    """First column of the bars of each crop, and the first row of them, from the crops' places."""
    is_crop = (np.asarray(sheet) == CROP).all(axis=2)
    columns = np.flatnonzero(is_crop.any(axis=0))
    ends = [*(columns[:-1][np.diff(columns) > 1]).tolist(), int(columns[-1])]
    return [(end + 1 + 4 + 3, int(np.flatnonzero(is_crop.any(axis=1))[0])) for end in ends]


def test_bars_go_from_the_lowest_to_the_highest_contrast_of_a_query(result):
    first, second = part_bars(result, NAMES)
    assert [bar.name for bar in first] == [f"stripe-{stripe}-of-6" for stripe in range(1, 7)]
    assert [bar.region for bar in first] == ["head", "torso", "torso", "legs", "legs", "shoes"]
    # From -1 to 3: a quarter for each whole number above -1.
    assert [bar.fill for bar in first] == pytest.approx([(value + 1) / 4 for value in FIRST])
    assert [bar.fill for bar in second] == pytest.approx([(value + 1) / 4 for value in SECOND])
    assert [bar.is_nearer for bar in second] == [True, False, True, True, True, True]
    assert [bar.shown for bar in second][:2] == ["+2.5", "\N{MINUS SIGN}1.0"]
    assert [[bar.mark for bar in bars] for bars in (first, second)] == [["", "clear", "", "", "", ""]] * 2


def test_the_bars_of_one_match_begin_at_usual(result):
    (bars,) = part_bars(replace(result, matches=result.matches[:1], separation=None), NAMES)
    assert [bar.fill for bar in bars] == pytest.approx([value / 3 for value in FIRST])
    assert not any(bar.mark for bar in bars)


def test_only_ranks_1_and_2_are_marked(result):
    third = replace(result, matches=(*result.matches, replace(result.matches[1], rank=3)))
    assert [any(bar.mark for bar in bars) for bars in part_bars(third, NAMES)] == [True, True, False]


def test_a_sheet_draws_the_bars_beside_the_crop_at_the_height_of_their_parts(folder, result):
    sheet = contact_sheet([result], folder, block_names=NAMES)
    for (x, y), stripes in zip(_bars_of(sheet), (FIRST, SECOND), strict=True):
        for place, value in enumerate(stripes):
            middle = y + 32 * place + 13
            colour = FOR_COLOUR if value > 0 else AGAINST_COLOUR
            length = round((value + 1) / 4 * BAR_PX)
            assert _rows_of(sheet, colour, slice(x, x + BAR_PX))[middle] == length
            assert _rows_of(sheet, BLANK, slice(x, x + BAR_PX))[middle] == BAR_PX - length
        # The mark is a frame around the second bar.
        framed = _rows_of(sheet, INK, slice(x - 2, x + BAR_PX + 2))
        rows = [row - y for row in range(y - 5, y + 200) if framed[row] == BAR_PX + 4]
        assert rows == [32 - 2, 32 - 1, 64 - 5 + 1, 64 - 5 + 2]


def test_a_sheet_has_a_legend_and_names_only_where_there_are_bars(folder, result):
    sheet = contact_sheet([result], folder, block_names=NAMES)
    unknown = replace(result, matches=tuple(replace(match, contrasts=()) for match in result.matches), others=3)
    without = contact_sheet([unknown], folder, block_names=NAMES)
    assert sheet.height - without.height == 2 * 14  # three lines of legend, or one that says why there is none
    assert sum(_rows_of(without, FOR_COLOUR)) == sum(_rows_of(without, AGAINST_COLOUR)) == 0
    # The keys of the legend lie below the crops.
    below = _bars_of(sheet)[0][1] + 260
    assert all(sum(_rows_of(sheet, colour, slice(0, 40))[below:]) > 50 for colour in (FOR_COLOUR, AGAINST_COLOUR))
    nearer = replace(result, matches=(result.matches[0], replace(result.matches[0], rank=2)), separation=None)
    assert sheet.height - contact_sheet([nearer], folder, block_names=NAMES).height == 2 * 14  # none farther, no mark
    empty = contact_sheet([replace(result, matches=())], folder, block_names=NAMES)
    assert without.height - empty.height == 14


def test_a_report_names_measures_and_marks_the_parts(folder, result):
    document = html_report([result], folder, block_names=NAMES)
    parts = re.findall(
        r'<div class="part(.*?)"><b>(\w+)</b> <small>(.*?)</small> <span class="bar"><i class="(\w+)" '
        r'style="width:(\d+)%"></i></span> <span class="contrast">(.*?)</span></div>',
        document,
    )
    assert len(parts) == 12
    assert parts[0] == ("", "head", "stripe-1-of-6", "for", "100", "+3.0")
    assert parts[7] == (" separates", "torso", "stripe-2-of-6", "against", "0", "\N{MINUS SIGN}1.0")
    assert [mark for mark, *_ in parts].count(" separates") == 2
    titles = re.findall(r'<div class="parts" title="([^"]*)">', document)
    assert titles[0].splitlines()[:2] == [
        "stripe-1-of-6: share +0.0600, contrast +3.00",
        "stripe-2-of-6: share +0.0600, contrast +2.00",
    ]
    assert len(titles[0].splitlines()) == len(NAMES)
    assert "Rank 1 and rank 2 differ most in the torso (stripe-2-of-6): by 3.0 standard deviations." in document
    assert all(line in document for line in (NEARER, LENGTHS, MARKS["clear"]))


def test_a_report_says_why_there_are_no_bars(folder, result):
    unknown = replace(result, matches=tuple(replace(match, contrasts=()) for match in result.matches), others=3)
    document = html_report([unknown], folder, block_names=NAMES)
    assert FEW_OTHERS in document
    assert '<div class="part' not in document
    assert NEARER not in document


def test_the_finest_stripes_are_found_by_name():
    assert finest_stripes(NAMES) == (0, 1, 2, 3, 4, 5)
    assert finest_stripes(block_names((2, 4))) == (2, 3, 4, 5)
    with pytest.raises(UsageError, match=r"none of the 1 block names is a stripe's; expected stripe-1-of-6"):
        finest_stripes(("global-of-6",))
