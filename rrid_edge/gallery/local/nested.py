"""Nested upper bounds of cosines, which let a search skip rows of a large gallery.

The basis is orthonormal and ordered by energy. The *first level* of a row is its first coordinates and the length of
what they leave out; the *second level* is all coordinates and the length of the rest. The proof that no bound is too
low: ``docs/decisions/two-pass-search.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.products import products_of

FIT_ROWS = 8192
"""Most rows that a basis is fitted to; they are evenly spaced."""
MOST_DIMENSIONS = 256
MOST_FIRST = 32
BLOCK = 8192
"""Rows per block of the first level, whose columns are contiguous: a product reads them 2.4 times faster than rows."""
SCALE = 32_000
"""Second-level numbers are whole multiples of 1 / 32,000: rows are at most 1.01 long, so they fit 16 bits."""
UNBOUNDED = np.float32(1e30)
"""First-level residual of a row that is damaged: it is always scored."""
SAMPLE_ROWS = 1024
_LONGEST_SQUARED = 1.02**2
_PIECE, _SMALL_PIECE, _FEW = 128, 32, 2
"""Values per float32 sum, and the same for few vectors; the sums are added in float64."""
_UNIT = 2.0**-24
_GATHERED = 1024
_SAMPLE_PIECES = 8
_OVERSAMPLING, _ITERATIONS = 16, 3


@dataclass(frozen=True)
class Levels:
    """Numbers of coordinates of the first and of the second level."""

    first: int
    second: int


def levels_for(dimension: int) -> Levels:
    """The levels for vectors of D values: D / 16 coordinates, from 16 to 32, then D / 8, from 32 to 256."""
    second = min(dimension, max(32, min(MOST_DIMENSIONS, dimension // 8)))
    return Levels(min(second, max(16, min(MOST_FIRST, dimension // 16))), second)


def coordinate_error(coordinates: int) -> float:
    """Largest length of the error of so many computed coordinates of a unit vector."""
    return (_PIECE + 3) * _UNIT * math.sqrt(coordinates)


def first_slack(levels: Levels) -> float:
    """Largest amount by which a computed first-level bound is too low."""
    return 2.2 * coordinate_error(levels.first) + 1.1 * (levels.first + 3) * _UNIT


def second_slack(levels: Levels) -> float:
    """Largest amount by which a computed second-level bound is too low; most of it is the rounding to 16 bits."""
    rounding = (levels.second + 3) * _UNIT + math.sqrt(levels.second) / (2 * SCALE)
    return 2.2 * coordinate_error(levels.second) + 1.1 * rounding


def fit_basis(sample: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Uncentred principal components of ``sample`` (N, D): float32 (D, K), orthonormal columns, most energy first.

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


def coordinates_of(vectors: NDArray[np.float32], basis: NDArray[np.float32]) -> NDArray[np.float64]:
    """Coordinates of vectors (N, D) in a basis (D, K): float64 (N, K), with at most :func:`coordinate_error`."""
    if len(vectors) <= _FEW and not len(basis) % _SMALL_PIECE:
        # One call for all pieces, each too small for OpenBLAS to wake threads.
        pieces = vectors.reshape(len(vectors), -1, 1, _SMALL_PIECE) @ basis.reshape(-1, _SMALL_PIECE, basis.shape[1])
        total: NDArray[np.float64] = pieces.sum(axis=(1, 2), dtype=np.float64)
        return total
    result = np.zeros((len(vectors), basis.shape[1]))
    for start in range(0, len(basis), _PIECE):
        result += vectors[:, start : start + _PIECE] @ basis[start : start + _PIECE]
    return result


def _residuals(coordinates: NDArray[np.float64], squared_lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of what coordinates (N, K) leave out of vectors, rounded up by more than their error: float64 (N,)."""
    within = np.einsum("nk,nk->n", coordinates, coordinates)
    rest = np.maximum(squared_lengths - within, 0) + 2.1 * coordinate_error(coordinates.shape[1]) * squared_lengths
    residuals: NDArray[np.float64] = np.sqrt(rest)
    return residuals


def _squared_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    squared: NDArray[np.float64] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return squared


@dataclass(frozen=True)
class ProjectedRows:
    """Rows as the bounds store them.

    Attributes:
        first: float32 (N, first + 1): coordinates, then the length of the residual.
        second: int16 (N, second + 1): coordinates, then the length of the residual, in units of 1 / :data:`SCALE`.
    """

    first: NDArray[np.float32]
    second: NDArray[np.int16]


def are_usable(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which vectors (N, D) are finite and not longer than stored ones can be; others are damaged. bool (N,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        usable: NDArray[np.bool_] = _squared_lengths(vectors) <= _LONGEST_SQUARED  # false for NaN
    return usable


def project_rows(vectors: NDArray[np.float32], basis: NDArray[np.float32], first_count: int) -> ProjectedRows:
    """Project stored vectors (N, D). Damaged ones, which are not finite or too long, are marked as unbounded.

    Args:
        vectors: float32 (N, D).
        basis: float32 (D, K).
        first_count: coordinates of the first level.
    """
    usable = are_usable(vectors)
    vectors = vectors if usable.all() else np.where(usable[:, None], vectors, np.float32(0))
    squared, coordinates = _squared_lengths(vectors), coordinates_of(vectors, basis)
    first = np.empty((len(vectors), first_count + 1), np.float32)
    first[:, :-1] = coordinates[:, :first_count]
    first[:, -1] = np.nextafter(_residuals(coordinates[:, :first_count], squared).astype(np.float32), np.float32(2))
    first[~usable, -1] = UNBOUNDED
    second = np.empty((len(vectors), basis.shape[1] + 1), np.int16)
    second[:, :-1] = np.rint(coordinates * SCALE)
    second[:, -1] = np.ceil(_residuals(coordinates, squared) * SCALE)
    return ProjectedRows(first, second)


@dataclass(frozen=True)
class ProjectedQueries:
    """Queries as the bounds need them.

    Attributes:
        first: float32 (Q, first + 1).
        second: float32 (Q, second + 1), divided by :data:`SCALE`.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Both levels of some rows.

    Attributes:
        slots: int64 (N,), ascending.
        first: float32 (first + 1, N).
        second: float32 (second + 1, N).
    """

    slots: NDArray[np.int64]
    first: NDArray[np.float32]
    second: NDArray[np.float32]

    def of(self, kept: NDArray[np.bool_]) -> Sample:
        """Those rows that ``kept``, bool (N,), names."""
        return Sample(self.slots[kept], self.first[:, kept], self.second[:, kept])


class NestedBounds:
    """The bounds of one snapshot. Damaged rows have a first-level bound of about :data:`UNBOUNDED`.

    Args:
        basis: float32 (D, K), orthonormal columns.
        first: float32 (blocks, first + 1, :data:`BLOCK`): first level of all slots, padded.
        second: int16 (slots, K + 1): second level.

    Attributes:
        basis: as given.
        rows: number of slots that have bounds.
        levels: numbers of coordinates.
    """

    def __init__(self, basis: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.int16]) -> None:
        self.basis, self._first, self._second = basis, first, second
        self.rows = len(second)
        self.levels = Levels(first.shape[1] - 1, second.shape[1] - 1)

    @cached_property
    def sample(self) -> Sample:
        """About :data:`SAMPLE_ROWS` slots in some evenly spaced pieces."""
        piece = min(BLOCK, SAMPLE_ROWS // min(_SAMPLE_PIECES, len(self._first)))
        starts = np.linspace(0, max(0, self.rows - piece), min(_SAMPLE_PIECES, len(self._first))).astype(np.int64)
        taken = np.zeros(self.rows, bool)  # not np.unique: it imports numpy.ma, 30 ms of the first search
        for start in starts:
            taken[start : start + piece] = True
        slots = np.flatnonzero(taken)
        first = np.ascontiguousarray(self._first[slots // BLOCK, :, slots % BLOCK].T)
        return Sample(slots, first, np.ascontiguousarray(self._second[slots].T, np.float32))

    def project(self, queries: NDArray[np.float32]) -> ProjectedQueries:
        """Project queries (Q, D) of unit length."""
        coordinates, squared = coordinates_of(queries, self.basis), _squared_lengths(queries)
        count = self.levels.first
        first = np.column_stack([coordinates[:, :count], _residuals(coordinates[:, :count], squared)])
        second = np.column_stack([coordinates, _residuals(coordinates, squared)]) / SCALE
        return ProjectedQueries(first.astype(np.float32), second.astype(np.float32))

    def first_bounds(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """First-level bounds of all slots: float32 (Q, rows); ``queries`` is :attr:`ProjectedQueries.first`."""
        bounds = np.empty((len(queries), len(self._first) * BLOCK), np.float32)
        for index, block in enumerate(self._first):
            np.matmul(queries, block, out=bounds[:, index * BLOCK : (index + 1) * BLOCK])
        return bounds[:, : self.rows]

    def second_bounds(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Second-level bounds of some slots: float32 (N,); ``query`` is a row of :attr:`ProjectedQueries.second`."""
        bounds = np.empty(len(slots), np.float32)
        for start in range(0, len(slots), _GATHERED):
            rows = self._second.take(slots[start : start + _GATHERED], axis=0).astype(np.float32)
            bounds[start : start + _GATHERED] = products_of(rows, query)
        return bounds
