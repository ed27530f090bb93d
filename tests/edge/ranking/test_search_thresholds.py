"""The score of a search by gallery size and rate: growth, interpolation, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.extremes import ExtremeFit, fit_extremes
from rrid_edge.ranking.search_thresholds import SearchThreshold, needed
from support.thresholds import NOTHING, open_set


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.15])
def test_a_fit_finds_the_law_that_made_the_thresholds(shape):
    law = ExtremeFit(5000, 0.5, 0.04, shape)
    sizes = (50, 100, 1000, 5000)
    assert law.score(5000) == 0.5
    fit = fit_extremes(sizes, [law.score(size) for size in sizes], [9, 7, 3, 1])
    assert fit.shape == pytest.approx(shape)
    for size in (20, 700, 50_000):
        assert fit.score(size) == pytest.approx(law.score(size), abs=1e-9)


def test_growth_by_hand_and_informed_sizes_count_more():
    # Gumbel: each factor of e adds the scale. Two sizes have no shape.
    assert fit_extremes((100, 1000), (0.3, 0.4), (1, 1)).score(10_000) == pytest.approx(0.5)
    assert ExtremeFit(100, 0.3, 0.05, 0.0).score(round(100 * math.e**2)) == pytest.approx(0.4, abs=1e-4)
    assert ExtremeFit(100, 0.9, 0.1, 0.2).score(10**9) == 1.0
    falling = fit_extremes((10, 100, 1000), (0.5, 0.4, 0.3), (1, 1, 2))
    assert falling.scale == 0
    assert falling.location == pytest.approx(0.375)
    line = np.array([0.30, 0.35, 0.40, 0.45])
    off = fit_extremes((10, 100, 1000, 10_000), line + np.array([0, 0, 0, 0.05]), (50, 50, 50, 1))
    assert off.score(10) == pytest.approx(0.30, abs=0.005)
    assert off.score(1000) == pytest.approx(0.40, abs=0.005)


def test_a_score_grows_with_the_gallery_up_to_ten_times_the_largest():
    found = open_set({0.01: 0.6, 0.1: 0.5})
    assert found.score(1000, 0.01) == pytest.approx(0.6)
    assert found.score(100, 0.1) == pytest.approx(0.5 - 0.05 * math.log(10))
    assert found.score(10_000, 0.1) == pytest.approx(0.5 + 0.05 * math.log(10))
    assert found.score(3, 0.1) == found.score(10, 0.1)  # the smallest measured gallery
    assert found.score(0, 0.1) == found.score(10, 0.1)
    with pytest.raises(
        UsageError, match=r"10,001 crops are searched, .* up to 1,000 crops and hold for at most 10 times"
    ):
        found.score(10_001, 0.1)


def test_rates_between_measured_ones_are_interpolated_and_others_refused():
    found = open_set({0.01: 0.6, 0.1: 0.5})
    assert found.score(1000, math.sqrt(0.001)) == pytest.approx(0.55)
    assert SearchThreshold(found, 0.05).score(1000) == found.score(1000, 0.05)
    few = r"it needs 3,000 searches for 1,000 people, and there were 2,000 for 500; take"
    for rate, reason in ((0.3, r": expected 0\.01 to 0\.1$"), (2, r": expected 0\.01 to 0\.1$"), (0.001, few)):
        with pytest.raises(UsageError, match=reason):
            SearchThreshold(found, rate)
    with pytest.raises(UsageError, match="no rate was measured; it needs 30 searches for 10 people, and there were 0"):
        SearchThreshold(NOTHING, 0.1)
    # A lower rate never has a lower threshold, however the fits cross.
    assert open_set({0.01: 0.45, 0.1: 0.5}).score(1000, 0.01) == pytest.approx(0.5)


def test_people_and_searches_that_a_rate_needs():
    assert [needed(rate) for rate in (0.3, 0.1, 0.01, 0.001)] == [(4, 10), (10, 30), (100, 300), (1000, 3000)]
