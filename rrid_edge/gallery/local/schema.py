"""Tables of format 2, and how rows are written into them. Every entry has a checksum over all of its fields.

Texts are stored as bytes, because names of files may hold bytes that are no UTF-8.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.shared import UNKNOWN, row_check

FORMAT = 2

TABLES = """
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE info_copy (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE row (
    slot INTEGER PRIMARY KEY,
    id INTEGER NOT NULL,
    source BLOB NOT NULL,
    path BLOB,
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    camera BLOB,
    person BLOB,
    time INTEGER,
    frame INTEGER,
    track BLOB,
    label BLOB,
    crc32 INTEGER NOT NULL,
    check32 INTEGER NOT NULL,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX live_path ON row (path, source) WHERE dead = 0;
CREATE UNIQUE INDEX live_id ON row (id) WHERE dead = 0;
CREATE TABLE thumbnail (id INTEGER PRIMARY KEY, jpeg BLOB NOT NULL, check32 INTEGER NOT NULL);
CREATE TABLE kept_out (digest BLOB PRIMARY KEY, copy BLOB NOT NULL, check32 INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE unreadable (
    source BLOB NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    check32 INTEGER NOT NULL, PRIMARY KEY (path, source)
) WITHOUT ROWID;
CREATE TABLE erasing (slot INTEGER PRIMARY KEY);
"""
"""``row`` keeps removed rows (``dead``) until compaction. ``erasing`` names slots that are being overwritten."""
COLUMNS = (
    "slot, id, source, path, sha256, size, mtime_ns, camera, person, time, frame, track, label, crc32, check32, dead"
)
INSERT = f"INSERT INTO row ({COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608 - constants

Record = tuple[Any, ...]
MODULUS = 2**64
"""Of sums of the hashes of rows."""
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))


@dataclass(frozen=True)
class Entry:
    """An entry of the catalogue that was checked.

    Attributes:
        row: the crop.
        dead: whether the row was removed.
        intact: whether the entry is as it was written. If not, only its mark ``dead`` was damaged, and is corrected.
    """

    row: GalleryRow
    dead: bool
    intact: bool


def to_bytes(text: str | None) -> bytes | None:
    """A text as the catalogue stores it.

    Raises:
        UsageError: the text holds half of a surrogate pair.
    """
    try:
        return None if text is None else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{text!r}: this text is no Unicode text (half of a surrogate pair); expected text, or the name of a file"
        ) from error


def refuse_unstorable(row: NewRow) -> None:
    """Refuse a row with a text that cannot be stored.

    Raises:
        UsageError: a text holds half of a surrogate pair.
    """
    for text in (row.source, row.path, row.camera, row.person, row.track, row.label):
        if isinstance(text, str):
            to_bytes(text)


def from_bytes(data: bytes | None) -> str | None:
    """A text of the catalogue. Other types, which only damage makes, raise AttributeError."""
    return None if data is None else data.decode("utf-8", "surrogateescape")


def record_of(row: GalleryRow, *, dead: bool = False) -> Record:
    """A row as an entry of the table.

    Raises:
        UsageError: a text cannot be stored.
    """
    texts = [to_bytes(text) for text in (row.source, row.path, row.camera, row.person, row.track, row.label)]
    source, path, camera, person, track, label = texts
    return (
        row.slot, row.id, source, path, bytes.fromhex(row.sha256), row.size, row.mtime_ns, camera, person, row.time,
        row.frame, track, label, row.crc32, row_check(row, dead=dead), int(dead),
    )  # fmt: skip


def entry_of(record: Record, generation: int) -> Entry | None:
    """An entry of the table as a row, or None if it is damaged.

    Args:
        record: the table's columns, in the order of :data:`COLUMNS`.
        generation: number of the vector file.
    """
    (slot, id_, source, path, sha256, size, mtime_ns, camera, person, time, frame, track, label, crc32, check32,
     dead) = record  # fmt: skip
    try:
        row = GalleryRow(
            from_bytes(path), sha256.hex(), size, mtime_ns, from_bytes(camera), from_bytes(person), time, frame,
            from_bytes(track), from_bytes(label), source.decode("utf-8", "surrogateescape"), None, id_, crc32, slot,
            generation,
        )  # fmt: skip
    except (AttributeError, TypeError, ValueError):
        return None
    marked = dead == 1
    for truth in (marked, not marked):
        if row_check(row, dead=truth) == check32:
            return Entry(row, truth, intact=truth == marked and dead in (0, 1))
    return None


@dataclass(frozen=True)
class Columns:
    """What searches need of all live rows, by ascending slot.

    Attributes:
        slots: int64 (rows,).
        crcs: int64 (rows,): checksums of the stored vectors.
        times: int64 (rows,); :data:`UNKNOWN` for an unknown time.
        frames: int64 (rows,); :data:`UNKNOWN` for an unknown frame.
        cameras: int64 (rows,): positions in ``camera_names``.
        sources: int64 (rows,): positions in ``source_names``.
        camera_names: cameras; None is the unknown one.
        source_names: sources.
        total: checksum over the rows, in any order.
    """

    slots: NDArray[np.int64]
    crcs: NDArray[np.int64]
    times: NDArray[np.int64]
    frames: NDArray[np.int64]
    cameras: NDArray[np.int64]
    sources: NDArray[np.int64]
    camera_names: tuple[str | None, ...]
    source_names: tuple[str | None, ...]
    total: int


_OF_COLUMNS = f"slot, id, crc32, check32, ifnull(time, {UNKNOWN}), ifnull(frame, {UNKNOWN}), camera, source"


def read_columns(connection: sqlite3.Connection, first_slot: int = 0) -> Columns:
    """The columns of all live rows from a slot on.

    Raises:
        TypeError, ValueError, OverflowError, AttributeError: a value has another type, after damage.
    """
    query = f"SELECT {_OF_COLUMNS} FROM row WHERE dead = 0 AND slot >= ? ORDER BY slot"  # noqa: S608 - constants
    return _columns(connection.execute(query, (first_slot,)).fetchall())


def joined_columns(first: Columns, last: Columns) -> Columns:
    """The columns of two sets of rows; all slots of ``last`` are greater."""
    pairs = ((name, getattr(first, name), getattr(last, name)) for name in ("slots", "crcs", "times", "frames"))
    numbers = {name: np.concatenate(parts) for name, *parts in pairs}
    cameras, camera_names = _joined_codes(first.cameras, first.camera_names, last.cameras, last.camera_names)
    sources, source_names = _joined_codes(first.sources, first.source_names, last.sources, last.source_names)
    total = (first.total + last.total) % MODULUS
    return Columns(
        **numbers, cameras=cameras, sources=sources, camera_names=camera_names, source_names=source_names, total=total
    )


def _joined_codes(
    first: NDArray[np.int64], first_names: Sequence[Any], last: NDArray[np.int64], last_names: Sequence[Any]
) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    positions = {name: code for code, name in enumerate(first_names)}
    codes = np.array([positions.setdefault(name, len(positions)) for name in last_names], np.int64)
    return np.concatenate([first, codes[last]]), tuple(positions)


def columns_of(rows: Sequence[GalleryRow]) -> Columns:
    """The columns of some live rows."""
    return _columns(
        [
            (
                row.slot, row.id, row.crc32, row_check(row), UNKNOWN if row.time is None else row.time,
                UNKNOWN if row.frame is None else row.frame, to_bytes(row.camera), to_bytes(row.source),
            )
            for row in sorted(rows, key=lambda row: row.slot)
        ]
    )  # fmt: skip


def _columns(records: Sequence[Record]) -> Columns:
    slots, ids, crcs, checks, times, frames, cameras, sources = zip(*records, strict=True) if records else ((),) * 8
    numbers = [_integers(column) for column in (slots, ids, crcs, checks, times, frames)]
    camera_codes, camera_names = _coded(cameras)
    source_codes, source_names = _coded(sources)
    hashes = [
        _text_hashes(names)[codes] for codes, names in ((camera_codes, camera_names), (source_codes, source_names))
    ]
    total = _total([*(column.view(np.uint64) for column in numbers), *hashes])
    texts = [tuple(from_bytes(name) for name in names) for names in (camera_names, source_names)]
    return Columns(
        numbers[0], numbers[2], numbers[4], numbers[5], camera_codes, source_codes, texts[0], texts[1], total
    )


def _integers(values: Sequence[Any]) -> NDArray[np.int64]:
    result = np.array(values, None if values else np.int64)
    if result.dtype != np.int64:
        raise TypeError(f"expected whole numbers, found {result.dtype}")
    return result


def _coded(texts: Sequence[bytes | None]) -> tuple[NDArray[np.int64], list[bytes | None]]:
    """Texts as positions in a list of different texts."""
    positions: dict[bytes | None, int] = {}
    codes = [positions.setdefault(text, len(positions)) for text in texts]
    return np.array(codes, np.int64), list(positions)


def _text_hashes(texts: Sequence[bytes | None]) -> NDArray[np.uint64]:
    return np.array([1 << 40 if text is None else zlib.crc32(text) for text in texts], np.uint64)


def _total(columns: Sequence[NDArray[np.uint64]]) -> int:
    """Sum of a hash per row, modulo 2^64: a commit adds and subtracts the rows that it changes."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column) * _FACTORS[0]
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _FACTORS[1]
    return int(mixed.sum(dtype=np.uint64))


def new_row(row: NewRow, *, id_: int, crc32: int, slot: int, label: str | None) -> GalleryRow:
    """A row to be stored."""
    return GalleryRow(
        row.path, row.sha256, row.size, row.mtime_ns, row.camera, row.person, row.time, row.frame, row.track, label,
        row.source, None, id_, crc32, slot,
    )  # fmt: skip
