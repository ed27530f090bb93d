"""Products of rows that are only a few, and products of damaged rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def products_of(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of a few rows (N, D) with a query (D,), on one core: float32 (N,).

    One product per row wakes no thread of OpenBLAS. A matrix product of a few rows does, and waits for it.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
        scores: NDArray[np.float32] = (rows[:, None] @ query[:, None])[:, 0, 0]
    return scores


def without_infinite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, in which scores that are not finite (of damaged rows) have become minus infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        is_finite = np.isfinite(scores.sum())  # one pass; a sum of many finite scores is finite
    if not is_finite:
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    return scores
