"""The vector file: a 64-byte header, then rows of float16 or float32, append only, memory-mapped for reading."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rrid_edge.errors import GalleryError, printable

HEADER_BYTES = 64
_MAGIC = b"RRIDVEC1"
_LAYOUT = struct.Struct("<8sIIII32s")
DTYPES = ("float16", "float32")


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
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dimension * np.dtype(self.dtype).itemsize

    def header(self) -> bytes:
        """The 64 bytes at the file's beginning."""
        digest = hashlib.sha256(self.fingerprint.encode()).digest()
        packed = _LAYOUT.pack(_MAGIC, 1, self.dimension, DTYPES.index(self.dtype), self.generation, digest)
        return packed.ljust(HEADER_BYTES, b"\0")

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
        write_all(descriptor, form.header(), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview, position: int) -> None:
    """Write all of ``data`` at ``position``; the operating system may take it in parts."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


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
        header = stream.read(HEADER_BYTES)
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
