"""Contact sheets: one row per query with its ranked crops.

A crop's border is green for the query's person, red for another person, grey if the labels do not say. Junk and
distractors are neither right nor wrong: they are grey too, and named. The bars beside a crop show, from head to feet,
how much nearer to the query each part of the body is than that of other people in the gallery. A legend explains them.
Adopted networks have no stripes and no bars.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from rrid_edge.crops.naming import DISTRACTOR, JUNK, UNKNOWN
from rrid_edge.errors import OutputError, UsageError, item_at_work, printable
from rrid_edge.files import PRIVATE_MODE, atomic_output
from rrid_edge.matching import MatchResult
from rrid_edge.matching.records import DIFFERENT, SAME
from rrid_edge.pictures.parts import (
    MatchPictures,
    Thumbnail,
    check_block_scores,
    finest_stripes,
    no_match_message,
    part_bars,
    read_thumbnail,
    shown_person,
    when,
)
from rrid_edge.pictures.sheet_bars import (
    BAR_PX,
    BLANK,
    FAINT,
    INK,
    NAMES_PX,
    SMALL_LINE_PX,
    LegendEntry,
    draw_bars,
    draw_legend,
    draw_names,
    legend_of,
)

CROP_PX: Final = (96, 192)
"""Width and height of the box for one crop."""
_NOT_JUDGED: Final = (150, 154, 160)
BORDER_COLOURS: Final = {SAME: (22, 150, 72), DIFFERENT: (206, 44, 44)} | dict.fromkeys(
    (UNKNOWN, JUNK, DISTRACTOR), _NOT_JUDGED
)
MAX_SHEET_PIXELS: Final = 100_000_000
"""Size limit of a sheet, because image viewers fail above it."""
SHEET_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_BORDER, _GAP, _LINE = 4, 12, 18
_MARGIN, _FOOTER, _MOST_QUERY_IMAGES = 20, 34, 3
_BAR_SPACE = 3 + BAR_PX
_CELL_HEIGHT = CROP_PX[1] + 2 * _BORDER + 3 * _LINE + 14
_QUERY_CELL_WIDTH = CROP_PX[0] + 2 * _BORDER + _GAP
_PAPER = (255, 255, 255)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class _Layout:
    """Layout of one sheet, in pixels."""

    columns: int
    query_images: int
    row_lines: tuple[int, ...]
    stripes: int
    legend: tuple[LegendEntry, ...]

    @property
    def cell_width(self) -> int:
        return CROP_PX[0] + 2 * _BORDER + (_BAR_SPACE if self.stripes else 0) + _GAP

    @property
    def first_crop_x(self) -> int:
        return _MARGIN + self.query_images * _QUERY_CELL_WIDTH + _GAP + (NAMES_PX if self.stripes else 0)

    @property
    def foot(self) -> int:
        """Height of legend and footer."""
        return _FOOTER + SMALL_LINE_PX * len(self.legend)

    @property
    def size(self) -> tuple[int, int]:
        # At least three crops wide, to fit the footer and the message of an empty result.
        width = self.first_crop_x + max(3, self.columns) * self.cell_width + _MARGIN
        return width, _MARGIN + sum(self.row_lines) * _CELL_HEIGHT + len(self.row_lines) * _GAP + self.foot


def contact_sheet(
    results: Sequence[MatchResult],
    pictures: Path | MatchPictures,
    *,
    block_names: tuple[str, ...],
    columns: int = 10,
    footer: str = "",
) -> Image.Image:
    """Draw the results of one or several queries.

    Args:
        results: one row each; a query with several images shows the first three.
        pictures: of the matches: the folder that their paths are relative to, or more.
        block_names: the model's descriptor blocks, in order.
        columns: crops per line; further matches continue on the next line.
        footer: last line, for model and engine.

    Returns:
        RGB image. A crop that cannot be read is drawn as a grey box with the reason.

    Raises:
        UsageError: no results, no columns, block scores of another model, or a sheet above :data:`MAX_SHEET_PIXELS`.
    """
    if not results:
        raise UsageError("there is no answer to draw; give at least one query image")
    if columns < 1:
        raise UsageError(f"{columns} columns do not work; expected at least 1")
    check_block_scores(results, block_names)
    layout = _plan(results, columns, len(finest_stripes(block_names)))
    _check_size(layout)
    sheet = Image.new("RGB", layout.size, _PAPER)
    pen = _Pen(sheet)
    top = _MARGIN
    for result, lines in zip(results, layout.row_lines, strict=True):
        with item_at_work(", ".join(result.query)):
            _draw_row(pen, result, MatchPictures.of(pictures), block_names, layout, top)
        top += lines * _CELL_HEIGHT
        pen.draw.line((_MARGIN, top, sheet.width - _MARGIN, top), fill=BLANK)
        top += _GAP
    draw_legend(pen.draw, (_MARGIN, sheet.height - layout.foot + 2), layout.legend, pen.small)
    pen.text((_MARGIN, sheet.height - _FOOTER + 4), footer, sheet.width - 2 * _MARGIN, FAINT)
    return sheet


def _check_size(layout: _Layout) -> None:
    width, height = layout.size
    if width * height > MAX_SHEET_PIXELS:
        raise UsageError(
            f"the sheet would have {width} x {height} pixels; draw fewer queries or matches, or write a report instead",
            parameter=("top_k", "report"),
        )


def check_sheet_name(path: Path) -> None:
    """Check that a name ends as a contact sheet's.

    Raises:
        OutputError: it has another suffix.
    """
    if path.suffix.lower() not in SHEET_SUFFIXES:
        endings = ", ".join(sorted(SHEET_SUFFIXES))
        raise OutputError(f"{printable(path)}: a contact sheet is an image; end its name in one of {endings}")


def write_sheet(path: Path, image: Image.Image) -> None:
    """Write a contact sheet as PNG, JPEG or WebP, by its suffix. Only its owner can read the file.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    check_sheet_name(path)
    with atomic_output(path, PRIVATE_MODE) as partial:
        image.save(partial)


class _Pen:
    """Draws on a sheet. Text is cut to fit its space."""

    def __init__(self, sheet: Image.Image) -> None:
        self.sheet, self.draw = sheet, ImageDraw.Draw(sheet)
        self.font: _Font = ImageFont.load_default(size=14)
        self.small: _Font = ImageFont.load_default(size=11)

    def text(self, place: tuple[int, int], text: str, width: int, colour: tuple[int, int, int] = INK) -> None:
        """Draw one line of text, cut with dots if it is too long."""
        self.draw.text(place, self._cut(printable(text), width, self.font), fill=colour, font=self.font)

    def paragraph(self, place: tuple[int, int], text: str, width: int, height: int) -> None:
        """Draw small text, wrapped between words, as many lines as fit."""
        lines: list[str] = [""]
        for word in printable(text).split():
            longer = f"{lines[-1]} {word}".strip()
            if self.draw.textlength(longer, font=self.small) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        shown = [line for line in lines if line][: height // 14]
        for number, line in enumerate(shown):
            line_at = (place[0], place[1] + 14 * number)
            self.draw.text(line_at, self._cut(line, width, self.small), fill=FAINT, font=self.small)

    def crop(self, corner: tuple[int, int], thumbnail: Thumbnail, border: tuple[int, int, int]) -> None:
        """Draw a crop, or the reason why it is missing, in a box with a border."""
        x, y = corner
        right, bottom = x + CROP_PX[0] + 2 * _BORDER - 1, y + CROP_PX[1] + 2 * _BORDER - 1
        self.draw.rectangle((x, y, right, bottom), fill=BLANK, outline=border, width=_BORDER)
        if thumbnail.image is None:
            self.paragraph((x + _BORDER + 5, y + _BORDER + 8), thumbnail.problem, CROP_PX[0] - 10, CROP_PX[1] - 16)
            return
        image = thumbnail.image
        left = x + _BORDER + (CROP_PX[0] - image.width) // 2
        self.sheet.paste(image, (left, y + _BORDER + (CROP_PX[1] - image.height) // 2))

    def _cut(self, text: str, width: int, font: _Font) -> str:
        if self.draw.textlength(text, font=font) <= width:
            return text

        def width_of(length: int) -> int:
            return math.ceil(self.draw.textlength(text[:length] + "...", font=font))

        fits = bisect.bisect_right(range(len(text)), width, key=width_of)
        return text[: max(0, fits - 1)] + "..."


def _plan(results: Sequence[MatchResult], columns: int, stripes: int) -> _Layout:
    columns = max(1, min(columns, max(len(result.matches) for result in results)))
    return _Layout(
        columns=columns,
        query_images=max(1, min(_MOST_QUERY_IMAGES, max(len(result.query) for result in results))),
        row_lines=tuple(max(1, -(-len(result.matches) // columns)) for result in results),
        stripes=stripes,
        legend=legend_of(results) if stripes else (),
    )


def _draw_row(
    pen: _Pen, result: MatchResult, pictures: MatchPictures, block_names: tuple[str, ...], layout: _Layout, top: int
) -> None:
    _draw_query(pen, result, layout, top)
    if not result.matches:
        message_at = (layout.first_crop_x, top + CROP_PX[1] // 2)
        pen.text(message_at, no_match_message(result), layout.size[0] - layout.first_crop_x, FAINT)
        return
    width = layout.cell_width - _GAP
    for place, (match, bars) in enumerate(zip(result.matches, part_bars(result, block_names), strict=True)):
        line, column = divmod(place, layout.columns)
        x, y = layout.first_crop_x + column * layout.cell_width, top + line * _CELL_HEIGHT
        pen.crop((x, y), pictures.read(match, *CROP_PX), BORDER_COLOURS[result.verdict(match)])
        draw_bars(pen.draw, (x + CROP_PX[0] + 2 * _BORDER + 3, y + _BORDER), bars, CROP_PX[1])
        if column == 0:
            draw_names(pen.draw, (x - NAMES_PX, y + _BORDER), bars, CROP_PX[1], pen.small)
        label_y = y + CROP_PX[1] + 2 * _BORDER + 3
        pen.text((x, label_y), f"{match.rank}   {match.score:.3f}", width)
        person = shown_person(match.label or match.person, match.kind)
        pen.text((x, label_y + _LINE), _origin(match.camera, person), width, FAINT)
        pen.paragraph((x, label_y + 2 * _LINE), when(match), width, _LINE)


def _draw_query(pen: _Pen, result: MatchResult, layout: _Layout, top: int) -> None:
    for place, path in enumerate(result.query[: layout.query_images]):
        pen.crop((_MARGIN + place * _QUERY_CELL_WIDTH, top), read_thumbnail(path, *CROP_PX), INK)
    label_y = top + CROP_PX[1] + 2 * _BORDER + 3
    more = len(result.query) - layout.query_images
    title = "query" if more <= 0 else f"query (+{more} more)"
    width = layout.query_images * _QUERY_CELL_WIDTH - _GAP
    pen.text((_MARGIN, label_y), title, width)
    person = shown_person(result.person, result.query_kind)
    origin = _origin(result.camera, person) or " ".join(Path(path).name for path in result.query)
    pen.text((_MARGIN, label_y + _LINE), origin, width, FAINT)


def _origin(camera: str | None, person: str) -> str:
    """Camera and person, if known."""
    parts = [f"cam {camera}" if camera is not None else "", person]
    return " · ".join(part for part in parts if part)
