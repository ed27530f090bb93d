"""What carried a match: block shares measured against other crops of the same gallery.

A share alone says little: a block that is alike in all people has a large share in every score. The contrast says how
many standard deviations a share lies over the usual share of this query in this gallery.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.model.spec import ModelSpec

SAMPLE_ROWS: Final = 256
"""Crops of a gallery that tell the usual shares."""
_LEAST_ROWS: Final = 8
"""Fewer crops tell no standard deviation worth naming."""
_LEAST_SPREAD: Final = 1e-6
"""A smaller standard deviation comes from rounding."""
Region = Literal["head", "torso", "legs", "shoes", "body"]
_REGION_ENDS: Final[tuple[tuple[float, Region], ...]] = ((0.2, "head"), (0.55, "torso"), (0.9, "legs"), (1.0, "shoes"))
"""Where regions of an upright person end, as a share of the height of a crop."""
_STRIPE: Final = re.compile(r"stripe-(\d+)-of-(\d+)")
_MIXING: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)  # a frozen one takes six times as long to make, and an answer has 120 and more
class BlockContrast:
    """What one block adds to a score, against what it usually adds.

    Attributes:
        name: of the block.
        region: of the body that it describes.
        share: of the block in the score.
        usual: mean of its shares over the sample; None if the gallery is too small.
        spread: standard deviation of its shares over the sample; None if the gallery is too small.
        contrast: ``(share - usual) / spread``; None without a spread.
    """

    name: str
    region: Region
    share: float
    usual: float | None
    spread: float | None
    contrast: float | None


@lru_cache(maxsize=1024)
def region_of(block: str) -> Region:
    """The region of the body that a block describes: that of its stripe's middle; ``body`` for a global block."""
    stripe = _STRIPE.fullmatch(block)
    if stripe is None:
        return "body"
    middle = (int(stripe[1]) - 0.5) / int(stripe[2])
    return next((region for end, region in _REGION_ENDS if middle <= end), "shoes")


def sampled(ids: NDArray[np.int64], count: int = SAMPLE_ROWS) -> NDArray[np.int64]:
    """A fixed sample of rows: those whose hashed ids are lowest. Rows that come or go change it little.

    Args:
        ids: of all rows, int64 (N,), in any order.
        count: most rows.

    Returns:
        int64 (at most ``count``,), ascending.
    """
    if len(ids) > count:
        keys = ids.astype(np.uint64) * _MIXING
        keys ^= keys >> np.uint64(32)
        keys *= _MIXING
        ids = ids[np.argpartition(keys, count)[:count]]
    return np.sort(ids)


class UsualShares:
    """The usual shares of a query's blocks in the scores of a gallery's crops.

    Args:
        spec: of the model.
        shares: of the blocks in the score of each sampled crop, (N, blocks).
    """

    def __init__(self, spec: ModelSpec, shares: NDArray[np.floating]) -> None:
        self._names = spec.blocks
        self._is_known = len(shares) >= _LEAST_ROWS
        values = shares.astype(np.float64) if self._is_known else np.zeros((1, len(spec.blocks)))
        self._usual, self._spread = values.mean(axis=0).tolist(), values.std(axis=0).tolist()

    def contrasts(self, shares: Sequence[float]) -> tuple[BlockContrast, ...]:
        """The contrasts of a match.

        Args:
            shares: of the blocks in its score, in the model's order.
        """
        found = []
        for name, share, usual, spread in zip(self._names, shares, self._usual, self._spread, strict=True):
            told: tuple[float | None, float | None] = (usual, spread) if self._is_known else (None, None)
            contrast = (share - usual) / spread if spread > _LEAST_SPREAD else None
            found.append(BlockContrast(name, region_of(name), share, *told, contrast))
        return tuple(found)


class ContrastSample:
    """Sampled crops of a gallery.

    Args:
        spec: of the model.
        vectors: their descriptors, float32 (N, D).
    """

    def __init__(self, spec: ModelSpec, vectors: NDArray[np.float32]) -> None:
        self._spec = spec
        blocks = len(spec.blocks)
        by_block = vectors.reshape(len(vectors), blocks, spec.dimension // blocks).transpose(1, 0, 2)
        self._by_block = np.ascontiguousarray(by_block)  # 15 products of matrices take 0.15 ms, a sum over rows 0.7 ms

    def usual_shares(self, query: NDArray[np.float32]) -> UsualShares:
        """The usual shares of a query, float32 (D,) of unit length."""
        blocks = query.reshape(len(self._spec.blocks), -1, 1)
        return UsualShares(self._spec, np.matmul(self._by_block, blocks)[..., 0].T)
