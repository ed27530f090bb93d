"""The bars of contact sheets: how near each part of the body is, the names of the parts, and the legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import ImageDraw, ImageFont

from rrid_edge.matching import MatchResult
from rrid_edge.pictures.parts import FARTHER, FEW_OTHERS, LENGTHS, NEARER, Mark, PartBar, has_contrasts, marks_of

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
LegendEntry = tuple[Colour | Mark, str]
"""Colour of a bar or mark of a part, and what it means."""
FOR_COLOUR: Final = (44, 112, 190)
AGAINST_COLOUR: Final = (232, 138, 30)
INK: Final = (28, 30, 34)
FAINT: Final = (104, 108, 116)
BLANK: Final = (226, 228, 232)
BAR_PX: Final = 34
"""Width of a bar."""
NAMES_PX: Final = 84
"""Width of the names of the parts."""
SMALL_LINE_PX: Final = 14
"""Height of a line of small text."""
_BETWEEN_PX, _SWATCH_PX, _DASH_PX = 5, 10, 4


def draw_bars(pen: ImageDraw.ImageDraw, corner: tuple[int, int], bars: Sequence[PartBar], height_px: int) -> None:
    """Draw one bar per part, from head to feet.

    Args:
        pen: of the sheet.
        corner: upper left, in pixels.
        bars: the parts.
        height_px: of all bars, that of the crop beside them.
    """
    x, y = corner
    for place, bar in enumerate(bars):
        top, bottom = (y + row for row in _rows(place, len(bars), height_px))
        box = (x, top, x + BAR_PX - 1, bottom)
        pen.rectangle(box, fill=BLANK)
        length = round(bar.fill * BAR_PX)
        if length:
            colour = FOR_COLOUR if bar.is_nearer else AGAINST_COLOUR
            pen.rectangle((x, top, x + length - 1, bottom), fill=colour)
        if bar.mark:
            _frame(pen, (x - 2, top - 2, x + BAR_PX + 1, bottom + 2), bar.mark)


def draw_names(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], bars: Sequence[PartBar], height_px: int, font: Font
) -> None:
    """Name the parts beside their bars: the region with the block below, or the block alone where bars are low."""
    x, y = corner
    for place, bar in enumerate(bars):
        top, bottom = _rows(place, len(bars), height_px)
        named = ((bar.region, INK), (bar.name, FAINT))
        shown = named if bottom - top >= 2 * SMALL_LINE_PX - 4 else named[1:]
        for line, (text, colour) in enumerate(shown):
            pen.text((x, y + top + (SMALL_LINE_PX - 2) * line), text, fill=colour, font=font)


def legend_of(results: Sequence[MatchResult]) -> tuple[LegendEntry, ...]:
    """What the bars of a sheet mean, one entry per line; empty if no crop is drawn."""
    if not any(result.matches for result in results):
        return ()
    if not has_contrasts(results):
        return ((BLANK, FEW_OTHERS),)
    bars = (bar for result in results for match in result.matches for bar in match.contrasts)
    farther: tuple[LegendEntry, ...] = (
        ((AGAINST_COLOUR, FARTHER),) if any(one is not None and one <= 0 for one in bars) else ()
    )
    return ((FOR_COLOUR, f"{NEARER}; {LENGTHS}"), *farther, *marks_of(results).items())


def draw_legend(pen: ImageDraw.ImageDraw, corner: tuple[int, int], entries: Sequence[LegendEntry], font: Font) -> None:
    """Draw one line per entry, each behind its colour or frame."""
    x, y = corner
    for line, (key, text) in enumerate(entries):
        top = y + SMALL_LINE_PX * line
        box = (x, top + 2, x + _SWATCH_PX, top + 2 + _SWATCH_PX)
        if isinstance(key, tuple):
            pen.rectangle(box, fill=key)
        else:
            _frame(pen, box, key)
        pen.text((x + 2 * _SWATCH_PX, top), text, fill=FAINT, font=font)


def _frame(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], mark: Mark) -> None:
    """Draw the frame of a mark along the inner edge of a box; it is dashed for a part that separates not clearly."""
    left, top, right, bottom = box
    if mark == "clear":
        pen.rectangle(box, outline=INK, width=2)
        return
    for x in range(left, right + 1, 2 * _DASH_PX):
        for y in (top, bottom - 1):
            pen.rectangle((x, y, min(x + _DASH_PX - 1, right), y + 1), fill=INK)
    for y in range(top, bottom + 1, 2 * _DASH_PX):
        for x in (left, right - 1):
            pen.rectangle((x, y, x + 1, min(y + _DASH_PX - 1, bottom)), fill=INK)


def _rows(place: int, count: int, height_px: int) -> tuple[int, int]:
    """First and last row of a bar below the upper edge of the crop."""
    return height_px * place // count, height_px * (place + 1) // count - _BETWEEN_PX
