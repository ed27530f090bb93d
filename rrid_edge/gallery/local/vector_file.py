"""The vector file: a 64-byte header, then rows of float16 or float32. Append-only; memory-mapped for reading.

The last 8 bytes of the header are the commit mark: the number of committed rows, and its checksum. The mark is written
after the commit and not synced, so it may lag. A catalogue with fewer rows than the mark has lost commits.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rrid_edge.errors import GalleryError, printable
from rrid_edge.gallery.shared import DTYPES
from rrid_edge.machine.processor import usable_cores

HEADER_BYTES = 64
_MAGIC = b"RRIDVEC1"
_LAYOUT = struct.Struct("<8sIIII32s")
_MARK = struct.Struct("<II")
_ROWS_PER_TASK = 2048


@dataclass(frozen=True)
class VectorFormat:
    """The facts in the header.

    Attributes:
        dimension: values per row.
        dtype: ``float16`` or ``float32``.
        generation: number of the file.
        fingerprint: of the model.
    """

    dimension: int
    dtype: str
    generation: int
    fingerprint: str

    @property
    def file_name(self) -> str:
        """Name of the vector file in the folder of the index."""
        return f"vec.{self.generation}.{'f16' if self.dtype == 'float16' else 'f32'}"

    @property
    def row_bytes(self) -> int:
        """Bytes per row."""
        return self.dimension * np.dtype(self.dtype).itemsize

    def header(self) -> bytes:
        """The header up to the commit mark."""
        digest = hashlib.sha256(self.fingerprint.encode()).digest()
        return _LAYOUT.pack(_MAGIC, 1, self.dimension, DTYPES.index(self.dtype), self.generation, digest)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.generic]:
        """Rows (N, D) in the stored type, little-endian."""
        stored: DTypeLike = np.dtype(self.dtype).newbyteorder("<")
        return np.ascontiguousarray(vectors, dtype=stored)


def checksums(stored: NDArray[np.generic]) -> list[int]:
    """CRC-32 of each stored row."""
    return [zlib.crc32(row.tobytes()) for row in stored]


def create(path: Path, form: VectorFormat, mode: int) -> None:
    """Create an empty vector file of these permissions, and sync it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        write_all(descriptor, form.header() + _mark(0), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark_committed(path: Path, rows: int) -> None:
    """Write the commit mark: the catalogue has committed ``rows`` rows."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        write_all(descriptor, _mark(rows), _LAYOUT.size)
    finally:
        os.close(descriptor)


def committed_rows(path: Path) -> int:
    """The commit mark: a lower bound of the committed rows; 0 if the mark is damaged."""
    with path.open("rb") as stream:
        stream.seek(_LAYOUT.size)
        data = stream.read(_MARK.size)
    return _marked(data)


def _marked(data: bytes) -> int:
    rows: int = _MARK.unpack(data)[0] if len(data) == _MARK.size else 0
    return rows if data == _mark(rows) else 0


def _mark(rows: int) -> bytes:
    return _MARK.pack(rows, zlib.crc32(struct.pack("<I", rows)))


def zero_rows(path: Path, row_bytes: int, slots: Iterable[int]) -> None:
    """Overwrite some rows with zeros, and sync."""
    zeros = bytes(row_bytes)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for slot in slots:
            write_all(descriptor, zeros, HEADER_BYTES + slot * row_bytes)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def restore(path: Path, form: VectorFormat, slots: int, mode: int) -> int:
    """Bring a vector file into the state that the catalogue expects, without losing a committed row.

    A torn tail is cut. A damaged header is written again, and a file that is too short gets zeros: the checksums of
    its rows then tell which vectors are lost.

    Args:
        path: the file.
        form: its header.
        slots: rows that the catalogue has committed.
        mode: permissions of a new file.

    Returns:
        Number of rows that the file holds now: ``slots``, or the commit mark where that is higher.

    Raises:
        GalleryError: a folder or a special file is in its place.
    """
    if not path.exists():
        create(path, form, mode)
    check_kind(path.stat(), path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        data = os.pread(descriptor, HEADER_BYTES, 0)
        own = data[: _LAYOUT.size] == form.header()
        marked = _marked(data[_LAYOUT.size :]) if own else 0
        rows = max(slots, marked)
        # Rows beyond the catalogue belong to commits that it lost. No entry names them, so no forgetting finds them.
        for slot in range(slots, marked):
            write_all(descriptor, bytes(form.row_bytes), HEADER_BYTES + slot * form.row_bytes)
        os.ftruncate(descriptor, HEADER_BYTES + rows * form.row_bytes)
        if not own or marked != rows:
            write_all(descriptor, form.header() + _mark(rows), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return rows


def write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Write all of ``data`` at byte ``position``, repeating short writes."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def append(path: Path, data: bytes, position: int) -> None:
    """Write ``data`` at byte ``position`` of a file and sync it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        write_all(descriptor, data, position)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def check_kind(state: os.stat_result, path: Path) -> None:
    """Refuse a folder or a special file in the place of a vector file.

    Raises:
        GalleryError: it is no ordinary file.
    """
    if not stat.S_ISREG(state.st_mode):
        raise GalleryError(
            f"{printable(path)}: no ordinary file, expected stored descriptors; remove it, and repair the index with: "
            "rrid-edge index FOLDER"
        )


def check_header(header: bytes, path: Path, form: VectorFormat) -> None:
    """Refuse a file whose header contradicts the catalogue.

    Raises:
        GalleryError: the header differs.
    """
    if header[: _LAYOUT.size] != form.header():
        raise GalleryError(
            f"{printable(path)}: the vector file's header is damaged or foreign; repair the index with: "
            "rrid-edge index FOLDER"
        )


def check_length(size_bytes: int, path: Path, form: VectorFormat, rows: int) -> None:
    """Refuse a file that is too short for the catalogue's rows.

    Raises:
        GalleryError: the file is too short.
    """
    expected = HEADER_BYTES + rows * form.row_bytes
    if size_bytes < expected:
        raise GalleryError(
            f"{printable(path)}: the vector file is cut off ({size_bytes:,} of {expected:,} bytes); repair the index "
            "with: rrid-edge index FOLDER, which embeds the missing crops again"
        )


def damaged_slots(checksums: Sequence[tuple[int, int]], stored: NDArray[np.generic]) -> list[int]:
    """Slots whose vector does not match its checksum.

    Args:
        checksums: slots and the checksums of their vectors, from the catalogue.
        stored: all rows, memory-mapped: (slots, D).
    """

    def damaged(start: int) -> list[int]:
        batch = checksums[start : start + _ROWS_PER_TASK]
        return [slot for slot, crc32 in batch if zlib.crc32(stored[slot]) != crc32]

    # Threads help because zlib releases the GIL: 20,000 rows take 0.1 s.
    with ThreadPoolExecutor(min(4, usable_cores())) as pool:
        return [slot for slots in pool.map(damaged, range(0, len(checksums), _ROWS_PER_TASK)) for slot in slots]
