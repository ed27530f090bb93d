"""The files of the bounds: a basis, the first level by blocks of columns, and the second level by rows.

A cache that may be deleted at any time. Files of earlier versions are not read: the next writer makes new ones.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError
from rrid_edge.files import sync_path
from rrid_edge.gallery.local.nested import BLOCK, MOST_DIMENSIONS, Levels, NestedBounds, ProjectedRows, levels_for
from rrid_edge.gallery.local.vector_file import write_all

_MAGIC = b"RRIDPCA2"
_HEADER = struct.Struct("<8sIII")
BEING_ERASED = -1
"""Checksum of projected rows while some of them are overwritten; it fits all rows."""


_Rows = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Checksum = Annotated[int, Meta(ge=BEING_ERASED, lt=1 << 32)]
_Dimensions = Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS)]


@dataclass(frozen=True)
class ProjectionFacts:
    """The facts of a gallery's bounds, as the catalogue stores them.

    Attributes:
        first: coordinates of the first level.
        second: coordinates of the second level.
        rows: number of projected slots; later slots have no bound yet.
        fitted_on: number of slots when the basis was fitted.
        first_crc32: of the first level's bytes, row by row; :data:`BEING_ERASED` while some are overwritten.
        second_crc32: of the second level's bytes; :data:`BEING_ERASED` likewise.
        basis_crc32: of the basis file's bytes.
        fit: number of the basis. Each basis has files of its own, because readers may still use the last one.
    """

    first: _Dimensions
    second: _Dimensions
    rows: _Rows
    fitted_on: _Rows
    first_crc32: _Checksum
    second_crc32: _Checksum
    basis_crc32: _Checksum
    fit: _Rows = 0

    @property
    def levels(self) -> Levels:
        """Numbers of coordinates."""
        return Levels(self.first, self.second)

    @property
    def is_being_erased(self) -> bool:
        """Whether some rows are being overwritten, so that checksums mean nothing."""
        return BEING_ERASED in (self.first_crc32, self.second_crc32)

    def marked(self) -> ProjectionFacts:
        """These facts while rows are overwritten."""
        return replace(self, first_crc32=BEING_ERASED, second_crc32=BEING_ERASED)

    def to_json(self) -> str:
        """The text that the catalogue stores."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProjectionFacts | None:
        """Parse the catalogue's text; None if it is empty, damaged or of an earlier version: bounds are made again."""
        try:
            return _FACTS.parse(text, where="projection")
        except GalleryError:
            return None


_FACTS = Artefact("facts of a projection", ProjectionFacts, "index again", GalleryError)


class ProjectionFiles:
    """The three files of a gallery's bounds.

    Args:
        folder: of the index.
        generation: number of the vector file.
        fit: number of the basis.

    Attributes:
        paths: files of the basis, of the first and of the second level.
    """

    def __init__(self, folder: Path, generation: int, fit: int = 0) -> None:
        name = f"cache.{generation}.{fit}" if fit else f"cache.{generation}"
        self._basis, self._first, self._second = (folder / f"{name}.{kind}" for kind in ("basis", "first", "second"))
        self.paths = (self._basis, self._first, self._second)
        self._fit = fit

    def create(self, basis: NDArray[np.float32], mode: int) -> ProjectionFacts:
        """Write a basis and empty files of rows with these permissions."""
        levels = levels_for(len(basis))
        content = _HEADER.pack(_MAGIC, len(basis), levels.first, levels.second) + basis.astype("<f4").tobytes()
        for path, data in zip(self.paths, (content, b"", b""), strict=True):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            try:
                os.fchmod(descriptor, mode)
                write_all(descriptor, data, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_path(self._basis.parent)
        return ProjectionFacts(levels.first, levels.second, 0, 0, 0, 0, zlib.crc32(content), self._fit)

    def append(self, facts: ProjectionFacts, rows: ProjectedRows) -> ProjectionFacts:
        """Write projected rows after the first ``facts.rows`` rows, and sync.

        A kill changes only bytes of rows that no facts count yet: the last block's columns have room for its rows.
        """
        first = np.ascontiguousarray(rows.first, "<f4")
        second = np.ascontiguousarray(rows.second, "<i2").tobytes()
        with _opened(self._first) as descriptor:
            _write_columns(descriptor, facts.rows, first)
        with _opened(self._second) as descriptor:
            position = facts.rows * (facts.second + 1) * 2
            os.ftruncate(descriptor, position)
            write_all(descriptor, second, position)
        return replace(
            facts,
            rows=facts.rows + len(first),
            first_crc32=zlib.crc32(first.tobytes(), facts.first_crc32),
            second_crc32=zlib.crc32(second, facts.second_crc32),
        )

    def load(self, facts: ProjectionFacts, dimension: int) -> NestedBounds | None:
        """The basis and the memory-mapped levels; None if a file is missing or too short, or the basis is damaged."""
        levels = facts.levels
        try:
            content = self._basis.read_bytes()
            header = _HEADER.pack(_MAGIC, dimension, levels.first, levels.second)
            if zlib.crc32(content) != facts.basis_crc32 or content[: _HEADER.size] != header or not facts.rows:
                return None
            first, second = self._mapped(facts)
        except (OSError, ValueError):  # a map longer than its file
            return None
        basis = np.frombuffer(content, "<f4", offset=_HEADER.size).reshape(dimension, levels.second)
        return NestedBounds(basis, first, second)

    def _mapped(self, facts: ProjectionFacts) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        shape = (-(-facts.rows // BLOCK), facts.first + 1, BLOCK)
        first = np.memmap(self._first, dtype="<f4", mode="r", shape=shape)
        second = np.memmap(self._second, dtype="<i2", mode="r", shape=(facts.rows, facts.second + 1))
        return np.asarray(first), np.asarray(second)

    def are_intact(self, facts: ProjectionFacts) -> bool:
        """Whether the levels on the disk match their checksums."""
        crc = self._checksums(facts)
        return crc == (facts.first_crc32, facts.second_crc32)

    def _checksums(self, facts: ProjectionFacts) -> tuple[int, int] | None:
        """CRC-32 of both levels on the disk; None if a file is missing or too short."""
        if not facts.rows:
            return 0, 0
        try:
            first, second = self._mapped(facts)
        except (OSError, ValueError):
            return None
        of_first = of_second = 0
        for index, block in enumerate(first):
            rows = slice(index * BLOCK, min(facts.rows, (index + 1) * BLOCK))
            of_first = zlib.crc32(block[:, : rows.stop - rows.start].T.tobytes(), of_first)
            of_second = zlib.crc32(second[rows].tobytes(), of_second)
        return of_first, of_second

    def overwrite(self, facts: ProjectionFacts, slots: Iterable[int]) -> ProjectionFacts | None:
        """Overwrite both levels of some slots with zeros, and sync; None if a file is missing or cut off."""
        known = [slot for slot in slots if slot < facts.rows]
        try:
            with _opened(self._first) as first, _opened(self._second) as second:
                for slot in known:
                    _write_columns(first, slot, np.zeros((1, facts.first + 1), "<f4"))
                    write_all(second, bytes((facts.second + 1) * 2), slot * (facts.second + 1) * 2)
        except FileNotFoundError:
            return None
        crcs = self._checksums(facts)
        return None if crcs is None else replace(facts, first_crc32=crcs[0], second_crc32=crcs[1])


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file for writing, and sync it at the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield descriptor
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write_columns(descriptor: int, start: int, rows: NDArray[np.float32]) -> None:
    """Write rows (N, C) of the first level from row ``start`` on: each column of a block is one piece of the file."""
    columns, written = rows.shape[1], 0
    while written < len(rows):
        block, offset = divmod(start + written, BLOCK)
        part = np.ascontiguousarray(rows[written : written + BLOCK - offset].T)
        for column, values in enumerate(part):
            write_all(descriptor, values.tobytes(), 4 * ((block * columns + column) * BLOCK + offset))
        end = 4 * (block + 1) * columns * BLOCK
        if os.fstat(descriptor).st_size < end:
            os.ftruncate(descriptor, end)
        written += part.shape[1]
