"""What carried a match: its blocks measured against the blocks of other people in the same gallery.

The contrast of a block says by how many standard deviations it is nearer to the query's block than the same block of
other people usually is. ``1 - score`` is half the sum of the squared distances of all blocks, so near blocks make a
high score. Products of blocks add up to the score too, but they also grow with the lengths of the blocks: they name the
part in which near-twins differ less often (docs/decisions/parts.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import DISTRACTOR, PERSON, label_kind
from rrid_edge.gallery.sampling import RowSample, SampledRow
from rrid_edge.model.spec import ModelSpec

_LEAST_OTHERS: Final = 8
"""Fewer crops tell no mean and standard deviation worth naming."""
_LEAST_SPREAD: Final = 1e-6
"""A smaller standard deviation comes from rounding."""
_UNTOLD_SHARE: Final = 4
"""One in four crops of the sample scores too well to be taken for another person without a label."""
_LENGTHS: Final = (0.98, 1.02)
"""Squared lengths of intact descriptors; float16 changes them by about 2e-4."""
Region = Literal["head", "torso", "legs", "shoes", "body"]
_REGION_ENDS: Final[tuple[tuple[float, Region], ...]] = ((0.2, "head"), (0.55, "torso"), (0.9, "legs"), (1.0, "shoes"))
"""Where regions of an upright person end, as a share of the height of a crop."""
Contrasts = tuple[float | None, ...]
"""Of a match, one per block in the model's order. None where nothing is usual; empty if too few others are known."""
_STRIPE: Final = re.compile(r"stripe-(\d+)-of-(\d+)")


@dataclass(frozen=True)
class UsualBlock:
    """One block of a descriptor, and how far it usually is from that of other people.

    Attributes:
        name: of the block.
        region: of the body that it describes.
        usual: mean distance from the query's block in other people's crops; None if too few are known.
        spread: standard deviation of these distances; None if too few are known.
    """

    name: str
    region: Region
    usual: float | None
    spread: float | None


@lru_cache(maxsize=1024)
def stripe_of(block: str) -> tuple[int, int] | None:
    """Number of the stripe that a block describes, from 1 at the head, and count of stripes; None if it is none."""
    found = _STRIPE.fullmatch(block)
    return None if found is None else (int(found[1]), int(found[2]))


@lru_cache(maxsize=1024)
def region_of(block: str) -> Region:
    """The region of the body that a block describes: that of its stripe's middle; ``body`` for a global block."""
    stripe = stripe_of(block)
    if stripe is None:
        return "body"
    middle = (stripe[0] - 0.5) / stripe[1]
    return next((region for end, region in _REGION_ENDS if middle <= end), "shoes")


@dataclass(frozen=True)
class UsualBlocks:
    """How far the blocks of a query usually are from those of other people in a gallery.

    Attributes:
        blocks: of the model, in order.
        others: number of crops that they were measured on.
    """

    blocks: tuple[UsualBlock, ...]
    others: int

    @classmethod
    def of(cls, names: Sequence[str], distances: NDArray[np.float32]) -> UsualBlocks:
        """The usual blocks.

        Args:
            names: of the model's blocks.
            distances: of each block between the query and crops of others, (N, blocks).
        """
        count = len(distances)
        if count < _LEAST_OTHERS:
            return cls(tuple(UsualBlock(name, region_of(name), None, None) for name in names), count)
        means = distances.mean(axis=0, dtype=np.float64).tolist()
        spreads = distances.std(axis=0, dtype=np.float64).tolist()
        measured = zip(names, means, spreads, strict=True)
        return cls(tuple(UsualBlock(name, region_of(name), mean, spread) for name, mean, spread in measured), count)

    def contrasts(self, queries: NDArray[np.float32], crops: NDArray[np.float32]) -> list[Contrasts]:
        """The contrasts of some matches: ``(usual - distance) / spread`` of each block.

        Args:
            queries: what each match is compared with, float32 (N, D) of unit length.
            crops: float32 (N, D) of unit length.

        Returns:
            One tuple per match, in the order of the blocks; empty ones if too few others are known. None for a block
            in which all others are equally far.
        """
        if self.others < _LEAST_OTHERS:
            return [()] * len(crops)
        distances = block_distances(queries, crops, len(self.blocks)).tolist()
        return [tuple(map(_contrast, self.blocks, values)) for values in distances]


def block_distances(ones: NDArray[np.float32], others: NDArray[np.float32], blocks: int) -> NDArray[np.float64]:
    """The Euclidean distance of each block of some pairs of descriptors.

    Args:
        ones: float32 (N, D).
        others: float32 (N, D) or (1, D).
        blocks: number of blocks of equal width in a descriptor.

    Returns:
        float64 (N, blocks).
    """
    squares = np.square(ones - others).reshape(-1, blocks, ones.shape[1] // blocks)
    distances: NDArray[np.float64] = np.sqrt(squares.sum(axis=2, dtype=np.float64))
    return distances


def _contrast(block: UsualBlock, distance: float) -> float | None:
    if block.usual is None or block.spread is None or block.spread < _LEAST_SPREAD:
        return None
    return (block.usual - distance) / block.spread


class ContrastSample:
    """Sampled crops of a gallery, of which each query leaves out those that may show its own person.

    A crop shows another person if its label says so. Without labels, a crop counts as another person unless its score
    is among the best quarter of the sample.

    Args:
        spec: of the model.
        sample: of the gallery. Damaged descriptors are left out.
    """

    def __init__(self, spec: ModelSpec, sample: RowSample) -> None:
        self._names = spec.blocks
        parts = sample.vectors.reshape(len(sample.vectors), len(self._names), spec.dimension // len(self._names))
        with np.errstate(invalid="ignore", over="ignore"):  # damaged descriptors
            squares = np.einsum("nbw,nbw->nb", parts, parts)
            lengths = squares.sum(axis=1)
            intact = (lengths > _LENGTHS[0]) & (lengths < _LENGTHS[1])
        if not intact.all():
            parts, squares = parts[intact], squares[intact]
        self._parts, self._squares = parts.transpose(1, 0, 2), squares
        self._rows = [row for row, is_intact in zip(sample.rows, intact.tolist(), strict=True) if is_intact]

    def usual_blocks(self, queries: NDArray[np.float32], person: str | None = None) -> UsualBlocks:
        """What is usual for a query.

        Args:
            queries: descriptors of its images, float32 (images, D) of unit length. Each crop is compared with the image
                that it scores best with.
            person: that it shows, as file names write it; None if it is not known or no person's label.
        """
        queries = queries.reshape(len(queries), *self._parts.shape[::2])
        products = np.stack([np.matmul(self._parts, query[..., None])[..., 0].T for query in queries])
        best = products.sum(axis=2).argmax(axis=0)
        products = products[best, np.arange(len(best))]
        lengths = np.einsum("qbw,qbw->qb", queries, queries)[best]
        others = self._others(products.sum(axis=1), person)
        squares = (lengths + self._squares - 2 * products)[others]
        return UsualBlocks.of(self._names, np.sqrt(np.maximum(squares, 0)))  # rounding may leave less than 0

    def _others(self, scores: NDArray[np.float32], person: str | None) -> NDArray[np.bool_]:
        """Which rows show other people, as far as labels and scores (N,) tell: bool (N,)."""
        told = [_is_other(row, person) for row in self._rows]
        others = np.array([one is not False for one in told], np.bool_)
        untold = np.array([one is None for one in told], np.bool_)
        best = np.zeros(len(scores), np.bool_)
        best[np.argsort(-scores, kind="stable")[: len(scores) // _UNTOLD_SHARE]] = True
        return others & ~(untold & best)


def _is_other(row: SampledRow, person: str | None) -> bool | None:
    """Whether a row shows another person than a query; None if the labels do not tell."""
    if row.kind == DISTRACTOR:
        return True
    if person is None or row.kind != PERSON:
        return None
    if person in (row.person, row.label):
        return False
    # A confirmed label need not be one of the file names' persons.
    return True if row.label is None or label_kind(row.person) == PERSON else None
