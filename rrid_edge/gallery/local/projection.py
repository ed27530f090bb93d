"""Upper bounds of cosines from a few dimensions: which rows of a large gallery need not be looked at.

With an orthonormal basis V (D, K), every vector is its part in the basis and a residual: g = V Vᵀg + r. The two parts are
orthogonal, so a query's cosine with a row is the product of the parts in the basis and the product of the residuals, and
the latter is at most |query residual| x |row residual| (Cauchy-Schwarz). Each row keeps its K coordinates and the length of
its residual: one product with the query's coordinates and residual length bounds the cosine of every row from above.

The basis holds the directions in which the gallery varies most (principal components, uncentred), so residuals are short.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.files import sync_path
from rrid_edge.gallery.local.vector_file import write_all

SLACK = np.float32(2e-5)
"""What rounding may take from a bound: the basis is orthonormal to 1e-7 and products are summed in float32."""
FIT_ROWS = 8192
"""Rows that a basis is fitted on at most, evenly spaced."""
LARGEST = 256
_COORDINATE_ERROR = 1e-6
"""How far the squared length of the coordinates may be off, of the whole: float32 products of some thousand values."""
_OVERSAMPLED, _ITERATIONS = 16, 3
_MAGIC = b"RRIDPCA1"
_HEADER = struct.Struct("<8sII")


@dataclass(frozen=True)
class ProjectionFacts:
    """What the catalogue says of the files of a projection.

    Attributes:
        dimensions: K.
        rows: slots that are projected; later ones have no bound yet.
        fitted_on: slots that there were when the basis was fitted.
        crc32: of the projected rows' bytes.
        basis_crc32: of the basis file's bytes.
    """

    dimensions: int
    rows: int
    fitted_on: int
    crc32: int
    basis_crc32: int

    def to_json(self) -> str:
        """As the catalogue keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ProjectionFacts | None:
        """Read back; None where there is no projection, or words that this version does not know."""
        try:
            return cls(**{key: int(value) for key, value in json.loads(text or "null").items()})
        except (AttributeError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Projection:
    """A basis and the projected rows of one moment.

    Attributes:
        basis: float32 (D, K), orthonormal columns.
        rows: float32 (slots, K + 1): coordinates, and the length of the residual.
    """

    basis: NDArray[np.float32]
    rows: NDArray[np.float32]

    def bounds(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upper bounds of the products of queries (Q, D) with every projected slot: float32 (Q, slots)."""
        bounds: NDArray[np.float32] = project(self.basis, queries) @ self.rows.T
        return bounds

    def estimates(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """The products within the basis alone, which leave the residuals out: float32 (Q, slots)."""
        sides = project(self.basis, queries)
        sides[:, -1] = 0
        estimates: NDArray[np.float32] = sides @ self.rows.T
        return estimates


def dimensions_for(dimension: int) -> int:
    """How many dimensions bounds are computed in: a sixteenth, at most :data:`LARGEST`, at least 32 where there are."""
    return min(dimension, max(32, min(LARGEST, dimension // 15)))


def fit_basis(sample: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """The directions in which ``sample`` (N, D) varies most about the origin: float32 (D, K), orthonormal columns.

    By subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011, algorithm 4.4), which needs products only.
    """
    generator = np.random.default_rng(0)
    count = min(dimensions + _OVERSAMPLED, sample.shape[1])
    directions = generator.standard_normal((sample.shape[1], count)).astype(np.float32)
    for _ in range(_ITERATIONS):
        directions = np.linalg.qr(sample.T @ (sample @ directions))[0]
    parts = sample @ directions
    _, turned = np.linalg.eigh(parts.T.astype(np.float64) @ parts)
    best = directions.astype(np.float64) @ turned[:, ::-1][:, :dimensions]
    return np.linalg.qr(best)[0].astype(np.float32)


def project(basis: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates and residual lengths of vectors (N, D): float32 (N, K + 1)."""
    result = np.empty((len(vectors), basis.shape[1] + 1), np.float32)
    coordinates = vectors @ basis
    result[:, :-1] = coordinates
    whole = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    inside = np.einsum("nk,nk->n", coordinates, coordinates, dtype=np.float64)
    # Rounded up, by more than the float32 coordinates may be off: a bound may be too high, never too low.
    result[:, -1] = np.sqrt(np.maximum(whole - inside, 0) + _COORDINATE_ERROR * whole)
    return result


class ProjectionFiles:
    """The two files of a projection, beside the vectors of one generation: a cache that may be deleted at any time.

    Args:
        folder: of the index.
        generation: of the vector file.
    """

    def __init__(self, folder: Path, generation: int) -> None:
        self.basis_path = folder / f"cache.{generation}.basis"
        self.rows_path = folder / f"cache.{generation}.projected"

    def create(self, basis: NDArray[np.float32]) -> ProjectionFacts:
        """Write a basis, and no rows yet."""
        content = _HEADER.pack(_MAGIC, *basis.shape) + basis.astype("<f4").tobytes()
        for path, data in ((self.basis_path, content), (self.rows_path, b"")):
            with path.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        sync_path(self.basis_path.parent)
        return ProjectionFacts(basis.shape[1], 0, 0, 0, zlib.crc32(content))

    def append(self, facts: ProjectionFacts, rows: NDArray[np.float32]) -> ProjectionFacts:
        """Write projected rows behind those that ``facts`` knows, synced to the disk."""
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
        """Basis and mapped rows; None where the files are gone or shorter than ``facts`` says, or the basis is damaged."""
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
        """CRC-32 of the rows that ``facts`` knows, as they are on the disk; None where the file is gone."""
        left, found = facts.rows * (facts.dimensions + 1) * 4, 0
        try:
            with self.rows_path.open("rb") as stream:
                while left and (block := stream.read(min(left, 1 << 22))):
                    found, left = zlib.crc32(block, found), left - len(block)
        except OSError:
            return None
        return found if not left else None

    def overwrite(self, facts: ProjectionFacts, slots: list[int]) -> ProjectionFacts:
        """Zero the projections of some slots on the disk."""
        zeros = bytes((facts.dimensions + 1) * 4)
        descriptor = os.open(self.rows_path, os.O_WRONLY)
        try:
            for slot in slots:
                if slot < facts.rows:
                    write_all(descriptor, zeros, slot * len(zeros))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return replace(facts, crc32=self.checksum(facts) or 0)
