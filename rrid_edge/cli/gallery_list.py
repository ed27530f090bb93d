"""``rrid-edge gallery list``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.aligning import right, widest
from rrid_edge.cli.asked import row_filter
from rrid_edge.cli.common import JsonOption, print_json_rows, say
from rrid_edge.cli.gallery_app import FolderArgument, gallery_app
from rrid_edge.cli.options import GalleryOption
from rrid_edge.errors import printable
from rrid_edge.json_text import name_of_text

if TYPE_CHECKING:
    from rrid_edge.gallery.base import GalleryInfo, GalleryRow
    from rrid_edge.gallery.contract import Moment
    from rrid_edge.gallery.row_list import RowList, RowSelection, RowTotals


@gallery_app.command(
    "list",
    epilog="Example: rrid-edge gallery list demo/gallery --camera 2",
    help="List the crops of an index: person, camera, time, path. Crops must meet all filters that are given. Totals "
    "go to stderr.",
)
def list_crops(
    folder: FolderArgument,
    person: Annotated[
        str | None, typer.Option(help="List this person only: a label, or as file names write it.")
    ] = None,
    camera: Annotated[list[str] | None, typer.Option(help="List this camera only; can be repeated.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="List crops of this time or later: ISO 8601, a date, 30m, 2h or 7d ago, or a frame."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="List crops of this time or earlier, written as --since.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="List this source only; can be repeated.")] = None,
    ids: Annotated[list[int] | None, typer.Option("--id", help="List the crop of this id; can be repeated.")] = None,
    path: Annotated[
        str | None, typer.Option(help="List crops whose path matches, such as 'door/*.jpg'; * crosses folders.")
    ] = None,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.opening import location_of, open_store
    from rrid_edge.gallery.row_list import RowList, RowSelection

    chosen = RowSelection(row_filter(camera or (), source or (), since, until), person, frozenset(ids or ()), path)
    with open_store(location_of(folder, location)) as gallery, gallery.moment() as moment:
        rows, info = RowList(moment, chosen), moment.info()
        columns = rows.survey(_Columns)
        totals = columns.totals
        if as_json:
            told = asdict(info) | {"model": name_of_text(info.model)}
            facts = (_row_facts(row) for block in rows.blocks() for row in block)
            print_json_rows({"info": told, "totals": _totals_facts(totals)}, "rows", facts)
            return
        _print_rows(rows, columns)
        passed = totals.rows or chosen == RowSelection()
        hint = "" if passed else _nothing_passes(moment)
    say(_totals_line(totals, info, chosen))
    kind = f"index {info.index_type}" if info.index_type else f"{info.slots - info.rows} dead slots"
    say(f"{info.dtype}, model {info.spec.fingerprint[:12]}, {kind}")
    if hint:
        say(hint)


def _nothing_passes(moment: Moment) -> str:
    from rrid_edge.matching.doubts import nothing_passes  # most lists do without it

    return nothing_passes(moment)


def _row_facts(row: GalleryRow) -> dict[str, object]:
    """All fields of a row except its thumbnail."""
    return {name: value for name, value in vars(row).items() if name != "thumbnail"} | {"origin": row.origin}


def _totals_facts(totals: RowTotals) -> dict[str, object]:
    """The totals as JSON values; times as rows have them, UTC microseconds since 1970."""
    return {
        "rows": totals.rows,
        "people": totals.people,
        "cameras": totals.cameras,
        "first_time": totals.first,
        "last_time": totals.last,
        "first_frame": totals.first_frame,
        "last_frame": totals.last_frame,
    }


def _totals_line(totals: RowTotals, info: GalleryInfo, chosen: RowSelection) -> str:
    from rrid_edge.crops.times import format_time
    from rrid_edge.gallery.row_list import RowSelection

    counted = f"{totals.rows:,}" if chosen == RowSelection() else f"{totals.rows:,} of {info.rows:,}"
    parts = [
        f"{counted} crop{'' if counted == '1' else 's'}",
        f"{totals.people:,} {'person' if totals.people == 1 else 'people'}",
        f"{totals.cameras:,} camera{'' if totals.cameras == 1 else 's'}",
    ]
    if totals.first is not None and totals.last is not None:
        parts.append(f"{format_time(totals.first)} to {format_time(totals.last)}")
    if totals.first_frame is not None:
        parts.append(f"frames {totals.first_frame} to {totals.last_frame}")
    return ", ".join(parts)


class _Columns:
    """Totals of the listed rows, and the widths of their columns."""

    def __init__(self) -> None:
        from rrid_edge.gallery.row_list import RowTotals

        self.totals = RowTotals()
        self._widths: dict[str, int] = {}
        self._sources: set[str] = set()
        self._told: set[str] = set()

    def count(self, rows: Sequence[GalleryRow]) -> None:
        """Look at some more rows."""
        self.totals.count(rows)
        self._sources.update(row.source for row in rows)
        for name in ("person", "camera", "time", "source", "label", "track"):
            values = set(_values(rows, name))
            self._told |= {name} if values - {None} else set()
            self._widths[name] = widest(map(_text, values), self._widths.get(name, 0))

    def shown(self) -> dict[str, int]:
        """Widths by name of the columns that tell something: several sources, labels, tracks."""
        left_out = {"label", "track"} - self._told | ({"source"} if len(self._sources) < 2 else set())
        return {name: width for name, width in self._widths.items() if name not in left_out}


def _print_rows(rows: RowList, columns: _Columns) -> None:
    """Print one line per row, a block at a time."""
    shown = columns.shown()
    for block in rows.blocks():
        cells = [[right(_text(value), width) for value in _values(block, name)] for name, width in shown.items()] + [
            [printable(row.name) for row in block]
        ]
        print("\n".join(map("  ".join, zip(*cells, strict=True))))


def _text(value: str | None) -> str:
    return "-" if value is None else printable(value)


def _values(rows: Sequence[GalleryRow], name: str) -> Sequence[str | None]:
    """A field of some rows as the list shows it. A row without a time shows its frame."""
    from rrid_edge.crops.times import format_time

    def when(row: GalleryRow) -> str | None:
        if row.time is not None:
            return format_time(row.time)
        return None if row.frame is None else f"frame {row.frame}"

    return [when(row) for row in rows] if name == "time" else [getattr(row, name) for row in rows]
