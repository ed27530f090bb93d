"""Measuring thresholds per search: in galleries of many sizes, their growth beyond, a check on held-out people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from rrid_edge.ranking.extremes import LEAST_SIZES, fit_extremes
from rrid_edge.ranking.labels import LabelledCrops
from rrid_edge.ranking.open_set import OpenSetRates, true_positive
from rrid_edge.ranking.search_thresholds import SEARCH_RATES, HeldOut, OpenSet, SearchPoint, SearchRate, needed
from rrid_edge.ranking.searches import SearchScores, measure_searches, split_people

_LEAST_SIZE: Final = 5
_GROWTH_SPAN: Final = 10
"""The growth beyond the largest size is that of the sizes down to a tenth of it."""
_LEAST_STEP: Final = 1.2
"""The largest size is at least this many times the one before."""


def measure_open_set(
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    rates: Sequence[float] = SEARCH_RATES,
    same_camera: bool = False,
    check: bool = True,
) -> OpenSet:
    """Measure thresholds per search on labelled descriptors.

    Args:
        query: the queries.
        gallery: the gallery.
        rates: false-positive identification rates, in (0, 1).
        same_camera: as in :func:`~rrid_edge.ranking.searches.measure_searches`.
        check: also fit on half of the people and measure on the other half, and the reverse.

    Returns:
        The thresholds; rates that the data do not suffice for are unknown.
    """
    found = fit_open_set(measure_searches(query, gallery, same_camera=same_camera), rates)
    if not check or not found.known:
        return found
    first, second = (measure_searches(*half, same_camera=same_camera) for half in split_people(query, gallery))
    return replace(found, held_out=check_halves(first, second, rates))


def fit_open_set(scores: SearchScores, rates: Sequence[float] = SEARCH_RATES) -> OpenSet:
    """Thresholds per search from measured searches, without a check on held-out people.

    Args:
        scores: the searches.
        rates: false-positive identification rates, in (0, 1).
    """
    sizes = gallery_sizes(scores)
    people, present = scores.people, int(np.count_nonzero(~np.isnan(scores.right)))
    enough = {
        rate: len(sizes) > 1 and needed(rate)[0] <= people and needed(rate)[1] <= len(scores)
        for rate in sorted(set(rates))
    }
    measured: dict[float, list[tuple[float, float]]] = {rate: [] for rate in enough}
    for size in sizes:
        at_size = OpenSetRates(scores, size)
        for rate in (rate for rate, is_known in enough.items() if is_known):
            score = at_size.score_at(rate)
            measured[rate].append((score, at_size.people_behind(score)))
    found = tuple(_rate(scores, sizes, rate, measured[rate]) for rate in enough)
    return OpenSet(len(scores), people, present, sizes, found)


def _rate(scores: SearchScores, sizes: tuple[int, ...], rate: float, measured: list[tuple[float, float]]) -> SearchRate:
    if not measured:
        return SearchRate(rate, None)
    points = tuple(
        SearchPoint(size, score, true_positive(scores, score), people)
        for size, (score, people) in zip(sizes, measured, strict=True)
    )
    count = sum(point.size * _GROWTH_SPAN >= points[-1].size for point in points)
    last = points[-max(count, LEAST_SIZES) :]
    # A threshold that nobody reaches is known least of all.
    weights = [max(point.people_behind, 1.0) for point in last]
    growth = fit_extremes([point.size for point in last], [point.score for point in last], weights)
    return SearchRate(rate, replace(growth, location=points[-1].score), points)


def gallery_sizes(scores: SearchScores) -> tuple[int, ...]:
    """Crops of the galleries to measure in: 5, 10, 20, 50, 100 ... and the largest; empty if there is none."""
    largest = scores.largest_size
    steps = [factor * 10**power for power in range(len(str(largest))) for factor in (1, 2, 5)]
    least = max(_LEAST_SIZE, scores.least_size)
    return (
        *(size for size in steps if least <= size <= largest / _LEAST_STEP),
        *([largest] if largest >= least else []),
    )


def check_halves(
    first: SearchScores, second: SearchScores, rates: Sequence[float] = SEARCH_RATES
) -> tuple[HeldOut, ...]:
    """Fit on one half of the people and measure on the other, both ways, in galleries of three sizes.

    Args:
        first: searches among half of the people.
        second: searches among the other half.
        rates: false-positive identification rates, in (0, 1). Those that a half is too small for are left out.
    """
    fits = [fit_open_set(half, rates) for half in (first, second)]
    largest = min(first.largest_size, second.largest_size)
    common = sorted(set(gallery_sizes(first)) & set(gallery_sizes(second)) | {largest})
    sizes = sorted({common[0], common[len(common) // 2], common[-1]})
    known = sorted({rate.fpir for rate in fits[0].known} & {rate.fpir for rate in fits[1].known})
    checks = []
    for size in sizes if known else ():
        tried = [OpenSetRates(half, size) for half in (second, first)]
        for rate in known:
            one, other = (
                rates_at.false_positive(fit.score(size, rate)) for rates_at, fit in zip(tried, fits, strict=True)
            )
            checks.append(HeldOut(rate, size, (one, other)))
    return tuple(sorted(checks, key=lambda check: (check.fpir, check.size)))
