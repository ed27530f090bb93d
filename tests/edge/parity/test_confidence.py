"""Bounds and intervals: against sums over all outcomes, tables by hand, and resampling in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rrid_edge.parity.confidence import crops_needed, mean_interval, share_bounds


def _at_most(count, total, share):
    return sum(math.comb(total, hits) * share**hits * (1 - share) ** (total - hits) for hits in range(count + 1))


@pytest.mark.parametrize(("count", "total"), [(1, 20), (3, 200), (8, 97), (19, 20)])
def test_bounds_are_the_shares_with_tails_of_5_percent(count, total):
    lower, upper = share_bounds(count, total)
    assert _at_most(count, total, upper) == pytest.approx(0.05, abs=1e-9)
    assert 1 - _at_most(count - 1, total, lower) == pytest.approx(0.05, abs=1e-9)


def test_bounds_of_none_and_of_all_are_known_in_closed_form():
    assert share_bounds(0, 200) == pytest.approx((0, 1 - 0.05 ** (1 / 200)))
    assert share_bounds(7, 7) == pytest.approx((0.05 ** (1 / 7), 1))
    lower, upper = share_bounds(8, 3368)  # Table values: Poisson limits 3.98 and 14.43 for a count of 8.
    assert (lower * 3368, upper * 3368) == pytest.approx((3.98, 14.43), abs=0.03)


def test_the_number_of_crops_that_would_decide_decides():
    assert crops_needed(0, 0.05) == 59  # the rule of three: 3 / 0.05 = 60
    assert share_bounds(0, 59)[1] <= 0.05 < share_bounds(0, 58)[1]
    assert crops_needed(0.02, 0.05) == 143
    assert share_bounds(4, 200)[1] <= 0.05 < share_bounds(2, 100)[1]  # 2 % each
    assert crops_needed(0.05, 0.05) is None


def test_the_interval_equals_resampling_in_a_loop():
    values = np.random.default_rng(1).exponential(size=40)
    low, high = mean_interval(values, seed=3)
    generator = np.random.default_rng(9)
    means = [np.mean([values[generator.integers(40)] for _ in range(40)]) for _ in range(4000)]
    slow = np.percentile(means, [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(slow), abs=0.03)
    assert mean_interval(values, seed=3) == (low, high)
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_an_interval_over_many_queries_needs_little_memory():
    low, high = mean_interval(np.random.default_rng(0).normal(size=20_000), draws=300)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(20_000), rel=0.2)
