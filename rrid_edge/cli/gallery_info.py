"""``rrid-edge info`` of a gallery."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import print_json
from rrid_edge.cli.wrapping import show_facts
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.gallery.describing import Description
    from rrid_edge.gallery.opening import Location

_MOST_NAMED = 12
"""Cameras and sources that one line names."""


def gallery_asked(text: str) -> Location | None:
    """The gallery that an argument names; None if it names a file, or nothing that exists.

    Raises:
        UsageError: a folder of models, or a mistyped address, whose password is not repeated.
        GalleryMissingError: a folder without a gallery.
    """
    from rrid_edge.gallery.describing import gallery_of
    from rrid_edge.gallery.opening import parse_location

    location = parse_location(text)
    if not isinstance(location, Path):
        return location
    return gallery_of(location) if location.is_dir() else None


def print_gallery(text: str, location: Location, *, as_json: bool) -> None:
    """Print the facts of a gallery.

    Args:
        text: as the user gave it.
        location: of the gallery.
        as_json: print JSON.
    """
    from rrid_edge.gallery.describing import describe_gallery

    told = describe_gallery(location)
    if as_json:
        print_json(_facts(text, told))
        return
    show_facts(_lines(text, told), name_width=13)


def _facts(text: str, told: Description) -> dict[str, object]:
    """Everything as JSON values; times are UTC microseconds since 1970."""
    info, totals = told.info, told.totals
    return {
        "gallery": text,
        "kind": "gallery",
        "store": "folder" if isinstance(told.location, Path) else "milvus",
        "location": str(told.location),
        "format": info.format,
        "fingerprint": info.spec.fingerprint,
        "model": None if told.model is None else str(told.model),
        "model_found": told.model is not None and told.model.is_file(),
        "dimension": info.spec.dimension,
        "dtype": info.dtype,
        "index_type": info.index_type or None,
        "rows": info.rows,
        "dead_slots": info.slots - info.rows,
        "people": totals.people,
        "cameras": [{"camera": name, "rows": count} for name, count in _counted(totals.rows_by_camera)],
        "sources": [{"source": name, "rows": count} for name, count in _counted(totals.rows_by_source)],
        "first_time": totals.first,
        "last_time": totals.last,
        "first_frame": totals.first_frame,
        "last_frame": totals.last_frame,
        "pattern": info.pattern or None,
        "time_from": info.time_from or None,
        "retention_s": info.retention_s,
        "commit": told.commit,
        "disk": None if told.disk is None else asdict(told.disk),
    }


def _lines(text: str, told: Description) -> list[tuple[str, str]]:
    info, totals = told.info, told.totals
    return [
        ("gallery", printable(text)),
        ("store", _store(told)),
        ("model", _model(told)),
        ("fingerprint", info.spec.fingerprint),
        ("crops", f"{info.rows:,}"),
        ("people", f"{totals.people:,}"),
        ("cameras", _named(totals.rows_by_camera, totals.cameras)),
        *([("sources", _named(totals.rows_by_source, len(totals.rows_by_source)))] if info.rows else []),
        ("times", _times(told)),
        ("descriptors", f"{info.dtype}, {info.spec.dimension} values per crop"),
        *([("names", f"read as {printable(info.pattern)}, times from {info.time_from}")] if info.pattern else []),
        ("kept", "for ever" if info.retention_s is None else f"for {info.retention_s:,} s (gallery retention)"),
        *_disk(told),
        ("check", "rrid-edge gallery verify reads every descriptor; this did not"),
    ]


def _store(told: Description) -> str:
    if isinstance(told.location, Path):
        return f"folder {printable(told.location)}, format {told.info.format}"
    return f"Milvus {printable(str(told.location))}, index {told.info.index_type}, format {told.info.format}"


def _model(told: Description) -> str:
    if told.model is None:
        return "not recorded"
    gone = "" if told.model.is_file() else " (no longer there)"
    return f"{printable(_short(told.model))}{gone}"


def _short(path: Path) -> Path:
    """A path below the working folder without its beginning."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _counted(counts: dict[str | None, int] | dict[str, int]) -> list[tuple[str | None, int]]:
    """Names with their number of rows, in their natural order."""
    from rrid_edge.crops.naming import natural_order

    return sorted(counts.items(), key=lambda pair: natural_order(pair[0]))


def _named(counts: dict[str | None, int] | dict[str, int], known: int) -> str:
    """``2: 1 (20), 3 (8), unknown (2)``."""
    pairs = _counted(counts)
    shown = [f"{'unknown' if name is None else printable(name)} ({count:,})" for name, count in pairs[:_MOST_NAMED]]
    more = f", and {len(pairs) - _MOST_NAMED:,} more" if len(pairs) > _MOST_NAMED else ""
    return f"{known:,}" + (f": {', '.join(shown)}{more}" if shown else "")


def _times(told: Description) -> str:
    from rrid_edge.crops.times import format_time

    totals, parts = told.totals, []
    if totals.first is not None and totals.last is not None:
        parts.append(f"{format_time(totals.first)} to {format_time(totals.last)}")
    if totals.first_frame is not None:
        parts.append(f"frames {totals.first_frame} to {totals.last_frame}")
    return ", ".join(parts) or "unknown"


def _disk(told: Description) -> list[tuple[str, str]]:
    """Lines that only a gallery in a folder has."""
    from rrid_edge.crops.times import format_time

    if told.disk is None:
        return []
    dead = told.info.slots - told.info.rows
    freed = f", {dead:,} slots of removed crops (gallery compact frees them)" if dead else ""
    changed = format_time(told.disk.changed_us // 1_000_000 * 1_000_000)
    return [
        ("on disk", f"{told.disk.size_bytes / 1e6:,.1f} MB{freed}"),
        ("last commit", f"number {told.commit}, catalogue of {changed}"),
    ]
