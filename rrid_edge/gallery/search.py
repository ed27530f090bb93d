"""Exact search: the rows of highest cosine, blockwise over the vector file, in an order that is the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 2048
"""Rows decoded to float32 at once: 2048 x 3840 values are 31 MB."""
ROUNDING = np.float32(4e-6)
"""How far a float32 product of unit vectors may lie from the exact one, whatever the order of its sums."""

Decode = Callable[[slice], NDArray[np.float32]]


def blocks(rows: int) -> Iterator[slice]:
    """Consecutive slices of at most :data:`BLOCK_ROWS` rows."""
    for start in range(0, rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, rows))


def approximate_scores(queries: NDArray[np.float32], rows: int, decode: Decode) -> NDArray[np.float32]:
    """Products of every query with every row, each within :data:`ROUNDING` of the exact one: float32 (Q, rows)."""
    scores = np.empty((len(queries), rows), np.float32)
    for block in blocks(rows):
        np.matmul(queries, decode(block).T, out=scores[:, block])
    np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    return scores


def candidates(scores: NDArray[np.float32], allowed: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Rows of ``allowed`` that may be among the best ``top_k`` of one query, ties and rounding included."""
    own = scores[allowed]
    if len(own) <= top_k:
        return allowed
    border = np.partition(own, len(own) - top_k)[len(own) - top_k]
    chosen: NDArray[np.int64] = allowed[own >= border - 2 * ROUNDING]
    return chosen


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of one query (D,) with some rows (N, D), summed in float64 and rounded once.

    One row at a time: so a score does not depend on which other rows are scored with it.
    """
    wide = query.astype(np.float64)
    return np.array([float(row.astype(np.float64) @ wide) for row in vectors], np.float32)
