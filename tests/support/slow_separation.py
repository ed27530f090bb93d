"""The part that separates rank 1 from rank 2, in plain loops over thin slices of the body."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

SLICES = 120
"""Divides by all counts of stripes that the tests have."""


def slow_separation(
    query: Sequence[float],
    first: Sequence[float],
    second: Sequence[float],
    blocks: Sequence[tuple[str, float, float]],
) -> tuple[str, float, bool] | None:
    """The block, the difference of its contrasts, and whether it separates clearly.

    Args:
        query: descriptor.
        first: descriptor of rank 1.
        second: descriptor of rank 2.
        blocks: name, usual distance and spread of each.
    """
    width = len(query) // len(blocks)

    def distance(one: Sequence[float], other: Sequence[float], place: int) -> float:
        part = slice(place * width, (place + 1) * width)
        return math.dist([float(value) for value in one[part]], [float(value) for value in other[part]])

    slices = {place: _slices(name) for place, (name, _, _) in enumerate(blocks) if name.startswith("stripe")}
    thinnest = min(map(len, slices.values()))
    fine = sorted((place for place in slices if len(slices[place]) == thinnest), key=lambda place: min(slices[place]))
    evidence, differences = [], []
    for stripe in fine:
        total = fall = apart = 0.0
        for place, own in slices.items():
            weight, usual = len(own & slices[stripe]) / len(own), blocks[place][1]
            total += weight
            fall += weight * (distance(query, second, place) - distance(query, first, place)) / usual
            apart += weight * distance(first, second, place) / usual
        evidence.append(math.copysign(math.sqrt(abs(fall / total) * (apart / total)), fall))
        differences.append((distance(query, second, stripe) - distance(query, first, stripe)) / blocks[stripe][2])
    found = [place for place, value in enumerate(evidence) if value > 0 and differences[place] > 0.05]
    if not found:
        return None
    best = max(found, key=lambda place: evidence[place])
    away = [value for place, value in enumerate(evidence) if abs(place - best) > 1]
    return blocks[fine[best]][0], differences[best], evidence[best] - max([0.0, *away]) >= 0.1


def _slices(name: str) -> frozenset[int]:
    number, count = map(int, re.findall(r"\d+", name))
    return frozenset(range(SLICES * (number - 1) // count, SLICES * number // count))
