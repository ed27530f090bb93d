"""The columns of all live rows beside the catalogue: a file of fixed-width records that every commit appends to.

A commit appends one record per row that became live or changed, and one per row that is gone. The last record of a slot
counts. A fact in the catalogue tells how many records a state has and their CRC-32. Readers copy the records and check
them; what does not fit is read from the catalogue instead. So the file is never synced, and may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError
from rrid_edge.gallery.local.column_names import path_of_names
from rrid_edge.gallery.local.mapped import erase_file
from rrid_edge.gallery.local.schema import Columns
from rrid_edge.gallery.local.vector_file import write_all

FACT = "columns"
"""Key of the fact that tells what a state has of its file."""
RECORD = np.dtype(
    [("slot", "<u4"), ("crc32", "<u4"), ("time", "<i8"), ("frame", "<i8"), ("camera", "<u4"), ("source", "<u4")]
)
"""A camera and a source are codes; see :mod:`rrid_edge.gallery.local.column_names`."""
FIELDS: tuple[str, ...] = RECORD.names or ()
SLOT, SOURCE = FIELDS.index("slot"), FIELDS.index("source")
GONE = 0
"""Source of a record that says that its slot has no live row any more. Also the camera that is unknown."""
_HEADER = struct.Struct("<8sII16x")
_MAGIC = b"RRIDCOL1"
_CHUNK_RECORDS = 1 << 15
"""Records read at once: 1 MiB, which stays in the cache between its checksum and its conversion."""

Records = NDArray[np.void]
_Count = Annotated[int, Meta(ge=0, lt=1 << 32)]


@dataclass(frozen=True)
class ColumnFacts:
    """What one state has of its file, as the catalogue stores it.

    Attributes:
        number: of the file. A file that is written again gets another number: readers may still use the last one.
        records: number of records.
        crc32: of the records' bytes.
        names_bytes: size of the file of the names.
        names_crc32: of these bytes.
        total: checksum over the live rows that the records stand for, as the facts of the gallery have it.
    """

    number: _Count
    records: _Count
    crc32: _Count
    names_bytes: _Count
    names_crc32: _Count
    total: Annotated[str, Meta(pattern=r"\A[0-9]{1,20}\Z")]

    def to_json(self) -> str:
        """The text that the catalogue stores."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, facts: Mapping[str, str]) -> ColumnFacts | None:
        """Those of a state's facts; None if there is no file for this state, or the text is damaged."""
        text = facts.get(FACT, "")
        try:
            found = _FACTS.parse(text, where=FACT) if text else None
        except GalleryError:
            return None
        # A release that does not know the file commits without it: the checksum over the rows tells.
        return found if found is not None and found.total == facts["total"] else None


_FACTS = Artefact("facts of the columns", ColumnFacts, "index again", GalleryError)


def path_of(folder: Path, generation: int, number: int) -> Path:
    """The file of a gallery.

    Args:
        folder: of the index.
        generation: number of the vector file.
        number: of the column file.
    """
    return folder / f"cache.{generation}.{number}.columns"


def has_columns(facts: Mapping[str, str]) -> bool:
    """Whether a state has a file. An empty gallery needs none."""
    return facts["rows"] == "0" or ColumnFacts.of(facts) is not None


def paths_of(folder: Path, facts: Mapping[str, str]) -> tuple[Path, ...]:
    """The files that the facts of a gallery name: none, or the columns and the names."""
    found = ColumnFacts.of(facts)
    if found is None:
        return ()
    path = path_of(folder, int(facts["generation"]), found.number)
    return path, path_of_names(path)


def records_of(columns: Columns, codes: Mapping[str | None, int]) -> Records:
    """Columns as records.

    Args:
        columns: of live rows.
        codes: of their names.
    """
    result = np.empty(len(columns.slots), RECORD)
    for name, values in zip(FIELDS, (columns.slots, columns.crcs, columns.times, columns.frames), strict=False):
        result[name] = values
    result["camera"] = np.array([codes[name] for name in columns.camera_names], np.int64)[columns.cameras]
    result["source"] = np.array([codes[name] for name in columns.source_names], np.int64)[columns.sources]
    return result


def gone_records(slots: NDArray[np.int64]) -> Records:
    """Records of slots that have no live row any more."""
    result = np.zeros(len(slots), RECORD)
    result["slot"] = slots
    return result


def is_part(path: Path) -> bool:
    """Whether a file beside the catalogue is a column file, or holds its names."""
    return path.suffix in (".columns", ".names")


def erase(path: Path) -> None:
    """Overwrite a column file or its names with zeros, and delete it. Readers copy and check, so none needs it.

    Raises:
        OSError: the disk refused it.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(kind):
        erase_file(path)
    elif not stat.S_ISDIR(kind):  # a link or a pipe, which holds nothing of the gallery
        path.unlink()


def create(path: Path, records: Records, mode: int) -> int:
    """Write a file of these permissions; returns the CRC-32 of its records.

    Raises:
        OSError: the disk refused a write.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        data = records.tobytes()
        write_all(descriptor, _header() + data, 0)
    finally:
        os.close(descriptor)
    return zlib.crc32(data)


def append(path: Path, known: ColumnFacts, records: Records) -> int | None:
    """Append records after the known ones; returns the CRC-32 of all. None if the file is too short.

    Raises:
        OSError: there is no such file, or the disk refused a write.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        position, state = _position(known.records), os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_size < position:
            return None
        if state.st_size > position:  # of a commit that was killed
            os.ftruncate(descriptor, position)
        data = records.tobytes()
        write_all(descriptor, data, position)
    finally:
        os.close(descriptor)
    return zlib.crc32(data, known.crc32)


def read(path: Path, known: ColumnFacts, facts: ColumnFacts, room: int = 0) -> NDArray[np.int64] | None:
    """The records of a state after the known ones, checked; None if the file is missing, cut off or damaged.

    The numbers are copied before they are checked: the file may be erased meanwhile.

    Args:
        path: of the file.
        known: what an earlier state had of the file.
        facts: of the state.
        room: number of undefined records at the end of the result.

    Returns:
        int64 (len(FIELDS), records + room).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
    except OSError:
        return None
    try:
        return _read(descriptor, known, facts, room)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read(descriptor: int, known: ColumnFacts, facts: ColumnFacts, room: int) -> NDArray[np.int64] | None:
    state, count = os.fstat(descriptor), facts.records - known.records
    if not stat.S_ISREG(state.st_mode) or state.st_size < _position(facts.records):
        return None
    if os.pread(descriptor, _HEADER.size, 0) != _header():
        return None
    # One block: NumPy asks for huge pages, and six arrays of 300,000 rows take 15 ms of page faults without them.
    result, crc32 = np.empty((len(FIELDS), count + room), np.int64), known.crc32
    chunk = np.empty(min(_CHUNK_RECORDS, count), RECORD)
    for start in range(0, count, _CHUNK_RECORDS):
        records = chunk[: min(_CHUNK_RECORDS, count - start)]
        view = memoryview(records.view(np.uint8).data)
        if os.preadv(descriptor, [view], _position(known.records + start)) != len(view):
            return None
        crc32 = zlib.crc32(view, crc32)
        for field, name in enumerate(FIELDS):
            result[field, start : start + len(records)] = records[name]
    return result if crc32 == facts.crc32 else None


def _position(records: int) -> int:
    return _HEADER.size + records * RECORD.itemsize


def _header() -> bytes:
    return _HEADER.pack(_MAGIC, RECORD.itemsize, 1)
