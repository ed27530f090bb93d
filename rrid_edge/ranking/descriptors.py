"""Arithmetic on descriptors: the mean of several images, and the share of each block in a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError

_SHORTEST_MEAN = 1e-6
_ROWS = 256
"""Rows that are multiplied at once: 256 x 3840 values are 8 MB."""


def mean_descriptor(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of unit descriptors (N, D), scaled to unit length: float32 (1, D).

    Raises:
        UsageError: the descriptors cancel out, so the mean has no direction.
    """
    mean = descriptors.astype(np.float64).mean(axis=0, keepdims=True)
    length = np.linalg.norm(mean)
    if length < _SHORTEST_MEAN:
        raise UsageError(
            f"the mean of {len(descriptors)} descriptors has length {length:.1g}: the images contradict each other; "
            "give images of one person"
        )
    unit: NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit


def block_shares(query: NDArray[np.float32], crop: NDArray[np.float32], blocks: int) -> tuple[float, ...]:
    """The share of each block in the cosine of two unit descriptors (D,). The shares sum to the cosine."""
    return block_shares_of(query[None], crop[None], blocks)[0]


def block_shares_of(queries: NDArray[np.float32], crops: NDArray[np.float32], blocks: int) -> list[tuple[float, ...]]:
    """:func:`block_shares` of each row of queries (N, D) and of crops (N, D)."""
    shares: list[tuple[float, ...]] = []
    for start in range(0, len(crops), _ROWS):
        products = queries[start : start + _ROWS].astype(np.float64) * crops[start : start + _ROWS]
        shares += map(tuple, products.reshape(len(products), blocks, -1).sum(axis=2).tolist())
    return shares
