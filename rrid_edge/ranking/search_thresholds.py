"""Thresholds per search: what was measured in galleries of many sizes, and the score for a gallery of any size.

:mod:`rrid_edge.ranking.open_set` defines the rates, :mod:`rrid_edge.ranking.extremes` the fit over sizes, and
:mod:`rrid_edge.ranking.search_fitting` measures.

A rate is measured only where the data suffice: there must be 1 / FPIR people and 3 / FPIR searches. It stays uncertain
while few people are behind it; ``people_behind`` says how many are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from msgspec import Meta

from rrid_edge.errors import UsageError
from rrid_edge.ranking.extremes import ExtremeFit
from rrid_edge.ranking.thresholds import MOST_COSINE

SEARCH_RATES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
MOST_GROWTH: Final = 10
"""A gallery may have this many times the crops of the largest measured one."""
_SEARCHES_PER_EVENT: Final = 3

_Rate = Annotated[float, Meta(gt=0, lt=1)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class SearchPoint:
    """One rate in galleries of one size.

    Attributes:
        size: crops of the gallery.
        score: lowest threshold at which FPIR is at most the rate.
        tpir: TPIR at ``score``; None if no search has a right answer.
        people_behind: people behind the measured FPIR: 1 / (its relative standard error)**2.
    """

    size: Annotated[int, Meta(ge=1)]
    score: Annotated[float, Meta(ge=-MOST_COSINE, le=MOST_COSINE)]
    tpir: _Share | None
    people_behind: Annotated[float, Meta(ge=0)]


@dataclass(frozen=True)
class SearchRate:
    """One false-positive identification rate.

    Attributes:
        fpir: the rate.
        growth: the threshold beyond the largest size; None if there were too few people or searches.
        points: what was measured, by ascending size; empty without ``growth``.
    """

    fpir: _Rate
    growth: ExtremeFit | None
    points: tuple[SearchPoint, ...] = ()

    def score(self, size: int) -> float:
        """The threshold in a gallery of ``size`` crops.

        Between two measured sizes, it is linear in the logarithm of the size. Below the smallest, that of the smallest
        holds: it is higher than needed.
        """
        assert self.growth is not None
        if size > self.points[-1].size:
            return self.growth.score(size)
        sizes = [math.log(point.size) for point in self.points]
        return float(np.interp(math.log(max(size, 1)), sizes, [point.score for point in self.points]))


@dataclass(frozen=True)
class HeldOut:
    """A threshold fitted on half of the people and tried on the other half.

    Attributes:
        fpir: the rate that was asked for.
        size: crops of the gallery.
        measured: the rate of the second half with the first half's threshold, and the reverse.
    """

    fpir: _Rate
    size: Annotated[int, Meta(ge=1)]
    measured: tuple[_Share, _Share]

    @property
    def ratio(self) -> float:
        """The mean of both measured rates, divided by the rate that was asked for."""
        return sum(self.measured) / len(self.measured) / self.fpir


@dataclass(frozen=True)
class OpenSet:
    """Open-set identification on one dataset.

    Attributes:
        searches: searches for absent people.
        people: people that were searched for.
        present_searches: searches for people that are in the gallery.
        sizes: crops of the measured galleries, ascending.
        rates: by ascending rate.
        held_out: checks on held-out people.
    """

    searches: _Count
    people: _Count
    present_searches: _Count
    sizes: tuple[Annotated[int, Meta(ge=1)], ...]
    rates: tuple[SearchRate, ...]
    held_out: tuple[HeldOut, ...] = ()

    def __post_init__(self) -> None:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError("the sizes are not in ascending order")
        rates = [rate.fpir for rate in self.rates]
        if rates != sorted(set(rates)):
            raise ValueError("the rates are not in ascending order")
        if any(tuple(point.size for point in rate.points) != self.sizes for rate in self.known):
            raise ValueError("points of other sizes")

    @property
    def known(self) -> list[SearchRate]:
        """The measured rates, ascending."""
        return [rate for rate in self.rates if rate.growth is not None]

    def score(self, size: int, fpir: float) -> float:
        """The threshold of a search in a gallery.

        Between two measured rates, the threshold is linear in the logarithm of the rate.

        Args:
            size: crops that are searched.
            fpir: share of searches for an absent person that may return somebody.

        Raises:
            UsageError: the rate is not between measured ones, or the gallery is too large for what was measured.
        """
        self.require(fpir)
        largest = self.sizes[-1]
        if size > MOST_GROWTH * largest:
            raise UsageError(
                f"{size:,} crops are searched, but thresholds per search were measured in galleries of up to "
                f"{largest:,} crops and hold for at most {MOST_GROWTH} times as many: evaluate on more data, or search "
                "fewer crops",
                parameter="fpir",
            )
        known = self.known
        scores = [rate.score(size) for rate in known]
        scores = np.maximum.accumulate(scores[::-1])[::-1].tolist()  # a lower rate never has a lower threshold
        return float(np.interp(math.log(fpir), [math.log(rate.fpir) for rate in known], scores))

    def require(self, fpir: float) -> None:
        """Refuse a rate that was not measured.

        Raises:
            UsageError: the rate is below the lowest or above the highest measured one.
        """
        known = [rate.fpir for rate in self.known]
        if known and known[0] * (1 - 1e-9) <= fpir <= known[-1] * (1 + 1e-9):
            return
        measured = f"expected {known[0]:g} to {known[-1]:g}" if known else "no rate was measured"
        people, searches = needed(fpir) if 0 < fpir < 1 else (1, 1)
        short = people > self.people or searches > self.searches
        reason = (
            f"; it needs {searches:,} searches for {people:,} people, and there were {self.searches:,} for "
            f"{self.people:,}; take a higher rate or evaluate on more data"
            if short
            else ""
        )
        raise UsageError(
            f"a false-positive rate of {fpir:g} per search was not measured: {measured}{reason}", parameter="fpir"
        )


@dataclass(frozen=True)
class SearchThreshold:
    """The threshold of a search at a false-positive rate: the score depends on how many crops are searched.

    Attributes:
        open_set: what was measured.
        fpir: share of searches for an absent person that may return somebody.

    Raises:
        UsageError: the rate was not measured.
    """

    open_set: OpenSet
    fpir: float

    def __post_init__(self) -> None:
        self.open_set.require(self.fpir)

    def score(self, size: int) -> float:
        """The threshold in a gallery of ``size`` crops; see :meth:`OpenSet.score`."""
        return self.open_set.score(size, self.fpir)


def needed(fpir: float) -> tuple[int, int]:
    """People and searches that a rate needs."""
    return math.ceil(1 / fpir - 1e-9), math.ceil(_SEARCHES_PER_EVENT / fpir - 1e-9)
