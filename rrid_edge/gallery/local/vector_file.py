"""The vector file: a 64-byte header, then rows of float16 or float32, append only, memory-mapped for reading.

The header's last 8 bytes are a mark: how many rows the catalogue had committed, with a checksum. It is written after the
commit and never synced, so it may lag behind; but a catalogue with fewer rows than the mark has lost commits.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
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
_CHECKED_AT_ONCE = 2048


@dataclass(frozen=True)
class VectorFormat:
    """What the header fixes.

    Attributes:
        dimension: values of a row.
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
        """Of the vector file, in the folder of the index."""
        return f"vec.{self.generation}.{'f16' if self.dtype == 'float16' else 'f32'}"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dimension * np.dtype(self.dtype).itemsize

    def header(self) -> bytes:
        """The bytes at the file's beginning, up to the mark."""
        digest = hashlib.sha256(self.fingerprint.encode()).digest()
        return _LAYOUT.pack(_MAGIC, 1, self.dimension, DTYPES.index(self.dtype), self.generation, digest)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.generic]:
        """Rows as they are stored."""
        stored: DTypeLike = np.dtype(self.dtype).newbyteorder("<")
        return np.ascontiguousarray(vectors, dtype=stored)


def checksums(stored: NDArray[np.generic]) -> list[int]:
    """CRC-32 of every stored row."""
    return [zlib.crc32(row.tobytes()) for row in stored]


def create(path: Path, form: VectorFormat) -> None:
    """Make an empty vector file and sync it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, form.header() + _mark(0), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark_committed(path: Path, rows: int) -> None:
    """Note in the header that the catalogue has committed ``rows`` rows."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        write_all(descriptor, _mark(rows), _LAYOUT.size)
    finally:
        os.close(descriptor)


def committed_rows(path: Path) -> int:
    """How many rows the catalogue had committed at least, as the header says; 0 where it cannot be read."""
    with path.open("rb") as stream:
        stream.seek(_LAYOUT.size)
        data = stream.read(_MARK.size)
    rows: int = _MARK.unpack(data)[0] if len(data) == _MARK.size else 0
    return rows if data == _mark(rows) else 0


def _mark(rows: int) -> bytes:
    return _MARK.pack(rows, zlib.crc32(struct.pack("<I", rows)))


def write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Write all of ``data`` at ``position``; the operating system may take it in parts."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def append(path: Path, data: bytes, position: int) -> None:
    """Write at ``position`` of a file, synced to the disk."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        write_all(descriptor, data, position)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def map_rows(path: Path, form: VectorFormat, rows: int) -> NDArray[np.generic]:
    """The first ``rows`` rows, memory-mapped read-only: shape (rows, dimension).

    Raises:
        GalleryError: another header, or fewer rows than the catalogue has committed.
        FileNotFoundError: the file is gone (a compaction may have replaced it: look again).
    """
    check_file(path, form, rows)
    if rows == 0:
        return np.empty((0, form.dimension), form.dtype)
    stored: DTypeLike = np.dtype(form.dtype).newbyteorder("<")
    return np.memmap(path, dtype=stored, mode="r", offset=HEADER_BYTES, shape=(rows, form.dimension))


def check_file(path: Path, form: VectorFormat, rows: int) -> None:
    """Refuse a file whose header or length contradicts the catalogue.

    Raises:
        GalleryError: it does.
    """
    with path.open("rb") as stream:
        header = stream.read(_LAYOUT.size)
    if header != form.header():
        raise GalleryError(
            f"{printable(path)}: the vector file's header is damaged or foreign; remove the index folder and index again"
        )
    expected = HEADER_BYTES + rows * form.row_bytes
    if path.stat().st_size < expected:
        raise GalleryError(
            f"{printable(path)}: the vector file is cut off ({path.stat().st_size:,} of {expected:,} bytes); remove the "
            "index folder and index again"
        )


def damaged_slots(checksums: Sequence[tuple[int, int]], stored: NDArray[np.generic]) -> list[int]:
    """Slots whose vector does not fit its checksum; on all cores, since zlib releases the interpreter: 20,000 take 0.1 s.

    Args:
        checksums: slots and the checksums of their vectors, as the catalogue has them.
        stored: all rows, mapped: (slots, D).
    """

    def look(start: int) -> list[int]:
        return [
            slot for slot, crc32 in checksums[start : start + _CHECKED_AT_ONCE] if zlib.crc32(stored[slot]) != crc32
        ]

    with ThreadPoolExecutor(min(4, usable_cores())) as pool:
        return [slot for part in pool.map(look, range(0, len(checksums), _CHECKED_AT_ONCE)) for slot in part]
