"""Upper bounds of cosines in K dimensions, which let a search skip rows of a large gallery.

Each row keeps its K coordinates in an orthonormal basis and the length of its residual. One product with the query's
coordinates and residual length is an upper bound of the cosine. The derivation: ``docs/decisions/two-pass-search.md``.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import GalleryError
from rrid_edge.files import sync_path
from rrid_edge.gallery.local.vector_file import write_all

SLACK = np.float32(2e-5)
"""Largest rounding error of a bound: the basis is orthonormal to 1e-7, and products are summed in float32."""
FIT_ROWS = 8192
"""Most rows that a basis is fitted to; they are evenly spaced."""
MOST_DIMENSIONS = 256
_COORDINATE_ERROR = 1e-6
"""Largest relative error of the squared length of the coordinates, as float32 products of some thousand values."""
_OVERSAMPLING, _ITERATIONS = 16, 3
_MAGIC = b"RRIDPCA1"
_HEADER = struct.Struct("<8sII")
BEING_ERASED = -1
"""Checksum of projected rows while some of them are overwritten; it fits all rows."""


_Rows = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Checksum = Annotated[int, Meta(ge=BEING_ERASED, lt=1 << 32)]


@dataclass(frozen=True)
class ProjectionFacts:
    """The facts of a projection, as the catalogue stores them.

    Attributes:
        dimensions: K.
        rows: number of projected slots; later slots have no bound yet.
        fitted_on: number of slots when the basis was fitted.
        crc32: of the projected rows' bytes; :data:`BEING_ERASED` while some of them are overwritten.
        basis_crc32: of the basis file's bytes.
        fit: number of the basis. Each basis has files of its own, because readers may still use the last one.
    """

    dimensions: Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS)]
    rows: _Rows
    fitted_on: _Rows
    crc32: _Checksum
    basis_crc32: _Checksum
    fit: _Rows = 0

    def to_json(self) -> str:
        """The text that the catalogue stores."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProjectionFacts | None:
        """Parse the catalogue's text; None if it is empty or damaged: a projection is made again."""
        try:
            return _FACTS.parse(text, where="projection")
        except GalleryError:
            return None


_FACTS = Artefact("facts of a projection", ProjectionFacts, "index again", GalleryError)


@dataclass(frozen=True)
class Projection:
    """A basis and the projected rows of one snapshot.

    Attributes:
        basis: float32 (D, K), orthonormal columns.
        rows: float32 (slots, K + 1): coordinates, then the length of the residual.
    """

    basis: NDArray[np.float32]
    rows: NDArray[np.float32]

    def bounds(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upper bounds of the products of queries (Q, D) with every projected slot: float32 (Q, slots).

        Rounding may lower a bound by :data:`SLACK`.
        """
        bounds: NDArray[np.float32] = project(self.basis, queries) @ self.rows.T
        return bounds


def dimensions_for(dimension: int) -> int:
    """K for vectors of D values: D / 15, from 32 to :data:`MOST_DIMENSIONS`, never more than D."""
    return min(dimension, max(32, min(MOST_DIMENSIONS, dimension // 15)))


def fit_basis(sample: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Uncentred principal components of ``sample`` (N, D): float32 (D, K), orthonormal columns.

    Subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011, algorithm 4.4).
    """
    generator = np.random.default_rng(0)
    count = min(dimensions + _OVERSAMPLING, sample.shape[1])
    directions = generator.standard_normal((sample.shape[1], count)).astype(np.float32)
    for _ in range(_ITERATIONS):
        directions = np.linalg.qr(sample.T @ (sample @ directions))[0]
    coordinates = sample @ directions
    _, rotation = np.linalg.eigh(coordinates.T.astype(np.float64) @ coordinates)
    components = directions.astype(np.float64) @ rotation[:, ::-1][:, :dimensions]
    return np.linalg.qr(components)[0].astype(np.float32)


def project(basis: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates and residual lengths of vectors (N, D): float32 (N, K + 1)."""
    result = np.empty((len(vectors), basis.shape[1] + 1), np.float32)
    coordinates = vectors @ basis
    result[:, :-1] = coordinates
    squared_length = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    squared_in_basis = np.einsum("nk,nk->n", coordinates, coordinates, dtype=np.float64)
    # Rounded up by more than the error of float32 coordinates: a bound may be too high, never too low.
    residual = np.maximum(squared_length - squared_in_basis, 0) + _COORDINATE_ERROR * squared_length
    result[:, -1] = np.sqrt(residual)
    return result


class ProjectionFiles:
    """The two files of a projection: a cache that may be deleted at any time.

    Args:
        folder: of the index.
        generation: number of the vector file.
        fit: number of the basis.

    Attributes:
        basis_path: file of the basis.
        rows_path: file of the projected rows.
    """

    def __init__(self, folder: Path, generation: int, fit: int = 0) -> None:
        name = f"cache.{generation}.{fit}" if fit else f"cache.{generation}"
        self.basis_path, self.rows_path = folder / f"{name}.basis", folder / f"{name}.projected"
        self._fit = fit

    def create(self, basis: NDArray[np.float32], mode: int) -> ProjectionFacts:
        """Write a basis and an empty file of rows with these permissions."""
        content = _HEADER.pack(_MAGIC, *basis.shape) + basis.astype("<f4").tobytes()
        for path, data in ((self.basis_path, content), (self.rows_path, b"")):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            try:
                os.fchmod(descriptor, mode)
                write_all(descriptor, data, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_path(self.basis_path.parent)
        return ProjectionFacts(basis.shape[1], 0, 0, 0, zlib.crc32(content), self._fit)

    def append(self, facts: ProjectionFacts, rows: NDArray[np.float32]) -> ProjectionFacts:
        """Append projected rows (N, K + 1) after the first ``facts.rows`` rows, and sync."""
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        descriptor = os.open(self.rows_path, os.O_WRONLY)
        try:
            position = facts.rows * (facts.dimensions + 1) * 4
            os.ftruncate(descriptor, position)
            write_all(descriptor, data, position)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return replace(facts, rows=facts.rows + len(rows), crc32=zlib.crc32(data, facts.crc32))

    def load(self, facts: ProjectionFacts, dimension: int) -> Projection | None:
        """The basis and the memory-mapped rows; None if a file is missing or too short, or the basis is damaged."""
        shape = (facts.rows, facts.dimensions + 1)
        try:
            content = self.basis_path.read_bytes()
            if zlib.crc32(content) != facts.basis_crc32 or self.rows_path.stat().st_size < 4 * shape[0] * shape[1]:
                return None
            if content[: _HEADER.size] != _HEADER.pack(_MAGIC, dimension, facts.dimensions) or not facts.rows:
                return None
            rows = np.memmap(self.rows_path, dtype="<f4", mode="r", shape=shape)
        except OSError:
            return None
        basis = np.frombuffer(content, "<f4", offset=_HEADER.size).reshape(dimension, facts.dimensions)
        return Projection(basis, rows)

    def checksum(self, facts: ProjectionFacts) -> int | None:
        """CRC-32 of the first ``facts.rows`` rows on the disk; None if the file is missing or too short."""
        remaining_bytes, crc = facts.rows * (facts.dimensions + 1) * 4, 0
        try:
            with self.rows_path.open("rb") as stream:
                while remaining_bytes and (block := stream.read(min(remaining_bytes, 1 << 22))):
                    crc, remaining_bytes = zlib.crc32(block, crc), remaining_bytes - len(block)
        except OSError:
            return None
        return crc if not remaining_bytes else None

    def overwrite(self, facts: ProjectionFacts, slots: Iterable[int]) -> ProjectionFacts | None:
        """Overwrite the projected rows of some slots with zeros, and sync; None if the file is missing or cut off."""
        zeros = bytes((facts.dimensions + 1) * 4)
        try:
            descriptor = os.open(self.rows_path, os.O_WRONLY)
        except FileNotFoundError:
            return None
        try:
            for slot in slots:
                if slot < facts.rows:
                    write_all(descriptor, zeros, slot * len(zeros))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        crc32 = self.checksum(facts)
        return None if crc32 is None else replace(facts, crc32=crc32)
