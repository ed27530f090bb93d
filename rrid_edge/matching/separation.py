"""The part of the body that separates rank 1 from rank 2.

A part separates them if rank 2 is farther from the query there than rank 1, and if both differ from each other there.
The first alone is also moved by pose and light, in which the query differs from both; the second alone says nothing
about the query. Both are measured over all blocks that show the part, of every scale. A part separates clearly if it
leads by far over the parts away from it (docs/decisions/parts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.matching.contrast import Contrasts, Region, UsualBlocks, block_distances, stripe_of

_LEAST_DIFFERENCE: Final = 0.05
"""A smaller difference of two contrasts shows as 0.0: copies of one picture have it."""
_CLEAR_LEAD: Final = 0.1
"""Lead in evidence, which is a share of usual distances, over the parts that do not touch a part."""


@dataclass(frozen=True)
class Separation:
    """The block that speaks most for rank 1 and against rank 2.

    Attributes:
        block: its name: one of the finest stripes.
        region: of the body that it describes.
        difference: contrast of rank 1 minus that of rank 2, above 0.05.
        clear: whether it has much more evidence than the stripes that do not touch it.
    """

    block: str
    region: Region
    difference: float
    clear: bool


@lru_cache(maxsize=64)
def stripes_of(blocks: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the blocks that are stripes of the finest scale, from head to feet; empty without stripes."""
    found = _stripes(blocks)
    finest = max((count for _, count in found.values()), default=0)
    return tuple(sorted((place for place in found if found[place][1] == finest), key=lambda place: found[place][0]))


def separation(
    usual: UsualBlocks, queries: NDArray[np.float32], crops: NDArray[np.float32], contrasts: Sequence[Contrasts]
) -> Separation | None:
    """The finest stripe in which rank 1 and rank 2 differ most, in favour of rank 1.

    The evidence of a stripe is the geometric mean of two distances: by how much rank 2 is farther from its query than
    rank 1, and how far both are from each other. Each is a share of the usual distance, and a mean over the blocks that
    show the stripe, weighted by the share of their height that lies in it.

    Args:
        usual: what is usual for the query.
        queries: what each match is compared with, float32 (N, D) of unit length.
        crops: of the matches, best first, float32 (N, D) of unit length.
        contrasts: of the matches, as :meth:`UsualBlocks.contrasts` gives them.

    Returns:
        None with fewer than two matches, without stripes or contrasts, or if no stripe speaks for rank 1.
    """
    names = tuple(block.name for block in usual.blocks)
    stripes = stripes_of(names)
    if len(crops) < 2 or not stripes or not all(contrasts[:2]):
        return None
    falls = [_difference(contrasts[0][place], contrasts[1][place]) for place in stripes]
    evidence = _evidence(usual, names, queries[:2], crops[:2]).tolist()
    for_rank_1 = [place for place, fall in enumerate(falls) if fall > _LEAST_DIFFERENCE and evidence[place] > 0]
    if not for_rank_1:
        return None
    best = max(for_rank_1, key=evidence.__getitem__)
    away = max((one for place, one in enumerate(evidence) if abs(place - best) > 1), default=0.0)
    block = usual.blocks[stripes[best]]
    return Separation(block.name, block.region, falls[best], evidence[best] - max(away, 0.0) >= _CLEAR_LEAD)


def _difference(first: float | None, second: float | None) -> float:
    return 0.0 if first is None or second is None else first - second


def _evidence(
    usual: UsualBlocks, names: tuple[str, ...], queries: NDArray[np.float32], crops: NDArray[np.float32]
) -> NDArray[np.float64]:
    """For each finest stripe, how much speaks for rank 1 and against rank 2: float64 (stripes,), below 0 against it."""
    weights = np.array(_weights(names))
    lengths = np.array(
        [block.usual or np.inf for block in usual.blocks]
    )  # a block that is equal everywhere tells nothing
    near, far = block_distances(queries, crops, len(names))
    lead = weights @ ((far - near) / lengths)
    apart = weights @ (block_distances(crops[:1], crops[1:], len(names))[0] / lengths)
    evidence: NDArray[np.float64] = np.sign(lead) * np.sqrt(np.abs(lead) * apart)
    return evidence


@lru_cache(maxsize=64)
def _weights(names: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    """Weight of each block in each finest stripe: the share of the block's height in the stripe. Rows add up to 1."""
    found, rows = _stripes(names), []
    for finest in stripes_of(names):
        shares = [
            _overlap(found[place], found[finest]) * found[place][1] if place in found else 0.0
            for place in range(len(names))
        ]
        rows.append(tuple(share / sum(shares) for share in shares))
    return tuple(rows)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Height that two stripes share, each given by its number from 1 and their count; the body is 1 high."""
    top = max((number - 1) / count for number, count in (one, other))
    return max(0.0, min(number / count for number, count in (one, other)) - top)


def _stripes(names: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Number and count of the blocks that are stripes, by their places."""
    found = ((place, stripe_of(name)) for place, name in enumerate(names))
    return {place: stripe for place, stripe in found if stripe is not None}
