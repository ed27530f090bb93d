"""Open-set rates: against every draw of a small gallery, and against distributions whose thresholds are known."""

from __future__ import annotations

import itertools
from statistics import NormalDist

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.open_set import OpenSetRates, true_positive
from rrid_edge.ranking.search_fitting import check_halves, fit_open_set, gallery_sizes, measure_open_set
from rrid_edge.ranking.searches import SearchScores, measure_searches, split_people


def _side(persons, cameras, seed=0, dimension=6):
    rows = np.random.default_rng(seed).standard_normal((len(persons), dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return LabelledCrops(rows, Labels.of(persons, cameras))


QUERY = _side([1, 2, 3, -1, 0, 2], [1, 1, 1, 1, 1, 2], seed=1)
GALLERY = _side([1, 1, 2, 3, 0, 0, -1, 2, 4], [1, 2, 1, 2, 1, 2, 1, 3, 1], seed=2)


def _impostors(row, person):
    """Scores of a probe's impostor crops, counted crop by crop."""
    labels = GALLERY.labels.persons.tolist()
    return [
        float(row @ crop) for crop, other in zip(GALLERY.descriptors, labels, strict=True) if other not in (person, -1)
    ]


def _slow_rate(size, score):
    """FPIR over all galleries of ``size`` crops, each drawn once, of all probes of known people."""
    probes = [*zip(QUERY.descriptors, QUERY.labels.persons, strict=True)]
    probes += zip(GALLERY.descriptors, GALLERY.labels.persons, strict=True)
    shares = []
    for row, person in probes:
        if person > 0:
            draws = list(itertools.combinations(_impostors(row, person), size))
            shares.append(np.mean([max(draw) >= score for draw in draws]))
    return np.mean(shares)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_rate_is_the_mean_over_all_galleries(size):
    scores = measure_searches(QUERY, GALLERY)
    assert (len(scores), scores.people, scores.largest_size) == (4 + 6, 4, 6)
    rates = OpenSetRates(scores, size)
    for score in np.linspace(-0.95, 0.95, 9):
        assert rates.false_positive(score) == pytest.approx(_slow_rate(size, score), abs=1e-12)
    for asked in (0.05, 0.3, 0.8):
        found = rates.score_at(asked)
        assert _slow_rate(size, found + 1e-6) <= asked  # products of different shapes round differently
        assert _slow_rate(size, found - 1e-5) > asked


def test_one_of_four_crops_is_in_half_of_the_galleries_of_two():
    scores = SearchScores(np.array([1]), np.array([4]), np.array([[0.9, 0.2, 0.1, 0.0]], np.float32), np.array([0.5]))
    rates = OpenSetRates(scores, 2)
    assert rates.false_positive(0.9) == pytest.approx(1 / 2)
    assert rates.false_positive(0.2) == pytest.approx(1 - 1 / 6)  # one of the 6 pairs has neither
    assert rates.false_positive(0.95) == 0
    assert rates.score_at(0.5) == pytest.approx(0.2, abs=1e-6)
    assert rates.score_at(0.5) > np.float32(0.2)
    with pytest.raises(UsageError, match=r"a gallery of 5 crops cannot be measured .*: expected 1 to 4"):
        OpenSetRates(scores, 5)


def test_right_answers_are_those_of_other_cameras_at_any_rank():
    scores = measure_searches(QUERY, GALLERY)
    best = {
        number: max(float(QUERY.descriptors[number] @ GALLERY.descriptors[column]) for column in columns)
        for number, columns in {0: [1], 1: [7], 2: [3], 5: [2, 7]}.items()
    }
    assert np.sort(scores.right[~np.isnan(scores.right)]) == pytest.approx(sorted(best.values()), abs=1e-6)
    limit = float(np.median(list(best.values())))
    assert true_positive(scores, limit) == 0.5
    alone = measure_searches(_side([1], [1]), _side([1, 2], [1, 2]))
    assert true_positive(alone, 0.0) is None


def test_probes_are_spread_over_people_and_need_a_stranger():
    many = _side([1] * 50 + [2, 3], [1] * 52)
    scores = measure_searches(many, _side([1, 2, 3, 4], [2] * 4), most_searches=8)
    assert sorted(scores.persons.tolist()) == [1] * 6 + [2, 3]
    assert len(measure_searches(_side([1, 2], [1, 1]), _side([1, 1], [1, 2]))) == 1  # person 1 meets nobody else
    for gallery in (_side([-1], [1]), _side([1], [2])):
        found = measure_open_set(_side([1], [1]), gallery)
        assert (found.searches, found.sizes, found.known) == (0, (), [])


def test_few_kept_scores_describe_large_galleries_only():
    random = np.random.default_rng(4)
    full = -np.sort(-random.random((20, 400)).astype(np.float32), axis=1)
    persons, counts, none = np.arange(1, 21), np.full(20, 400), np.full(20, np.nan, np.float32)
    whole, part = SearchScores(persons, counts, full, none), SearchScores(persons, counts, full[:, :64], none)
    assert (whole.least_size, part.least_size) == (1, 50)
    assert gallery_sizes(part) == (50, 100, 200, 400)
    for size in gallery_sizes(part):
        for rate in (0.05, 0.3):
            assert OpenSetRates(part, size).score_at(rate) == OpenSetRates(whole, size).score_at(rate)


def _independent(seed, people=1200, each=2, impostors=600):
    """Searches whose impostor scores are independent and normal, of mean 0.2 and deviation 0.1."""
    scores = np.random.default_rng(seed).normal(0.2, 0.1, (people * each, impostors)).astype(np.float32)
    scores = -np.sort(-scores, axis=1)
    persons = np.repeat(np.arange(1, people + 1), each)
    return SearchScores(persons, np.full(len(persons), impostors), scores, np.full(len(persons), np.nan, np.float32))


def test_thresholds_of_independent_scores_are_the_known_ones():
    found = fit_open_set(_independent(1), (0.001, 0.01, 0.1))
    for size, factor in ((100, 1.2), (600, 1.3), (3000, 2.0)):  # the last one is extrapolated five times
        for rate in (0.01, 0.1):
            # All of N scores stay below T with the probability F(T)**N.
            true = 1 - NormalDist(0.2, 0.1).cdf(found.score(size, rate)) ** size
            assert 1 / factor < true / rate < factor, (size, rate)


def _twins(seed, people=300, each=8, cameras=4, dimension=24):
    """Queries and a gallery of people, every tenth of whom looks nearly like the one before."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((people, dimension))
    centres[::10] = centres[1::10] + 0.5 * random.standard_normal((len(centres[::10]), dimension))
    persons = np.repeat(np.arange(people), each)
    hardness = np.exp(0.3 * random.standard_normal(people))[persons, None]
    rows = centres[persons] + hardness * random.standard_normal((len(persons), dimension))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = Labels(persons + 1, np.tile(np.arange(each) % cameras, people))
    first = np.tile(np.arange(each) < cameras, people)
    return LabelledCrops(rows[first], labels[first]), LabelledCrops(rows[~first], labels[~first])


def test_thresholds_hold_for_held_out_people_who_look_alike():
    ratios: dict[tuple[float, int], list[float]] = {}
    for seed in range(3):
        first, second = (measure_searches(*half) for half in split_people(*_twins(seed), seed=seed))
        assert not set(first.persons) & set(second.persons)
        for check in check_halves(first, second, (0.01, 0.1)):
            ratios.setdefault((check.fpir, check.size), []).append(check.ratio)
    assert len(ratios) == 2 * 3
    for (rate, _), found in ratios.items():
        assert 1 / 1.5 < np.mean(found) < 1.5
        assert rate == 0.01 or all(1 / 1.5 < ratio < 1.5 for ratio in found)


def test_a_check_compares_one_half_with_the_other():
    first, second = (measure_searches(*half) for half in split_people(*_twins(5, people=40)))
    checks = check_halves(first, second, (0.1,))
    assert [check.size for check in checks] == [5, 20, min(first.largest_size, second.largest_size)]
    fits = [fit_open_set(half, (0.1,)) for half in (first, second)]
    for check in checks:
        there = OpenSetRates(second, check.size).false_positive(fits[0].score(check.size, 0.1))
        back = OpenSetRates(first, check.size).false_positive(fits[1].score(check.size, 0.1))
        assert check.measured == (there, back)
        assert check.ratio == pytest.approx((there + back) / 0.2)


def test_rates_need_people_and_searches():
    query, gallery = _twins(6, people=40)
    found = measure_open_set(query, gallery)
    assert [rate.fpir for rate in found.rates] == [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
    assert [rate.fpir for rate in found.known] == [0.03, 0.1, 0.3]
    assert found.sizes == (5, 10, 20, 50, 100, 156)
    assert (found.searches, found.people, found.present_searches) == (320, 40, 160)
    assert {check.fpir for check in found.held_out} == {0.1, 0.3}  # a half has 20 people
    for rate in found.rates[3:]:
        scores = [point.score for point in rate.points]
        assert scores == sorted(scores)
        tpirs = [point.tpir or 0.0 for point in rate.points]
        assert tpirs == sorted(tpirs, reverse=True)
        assert tpirs[0] > 0
    with pytest.raises(
        UsageError, match=r"0\.003 per search .*: expected 0\.03 to 0\.3; it needs 1,000 searches for 334"
    ):
        found.score(100, 0.003)
