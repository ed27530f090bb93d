"""Separation of pairs and the paired test, against slow and hand-computed answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from rrid_edge.ranking.labels import Labels
from rrid_export.adopt.telling import chance_of, corrected, person_precision, ranking_of, separation


def _unit(rows):
    values = np.asarray(rows, np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_separation_is_the_distance_of_two_means_in_deviations():
    generator = np.random.default_rng(4)
    labels = Labels.of([1, 1, 1, 2, 2, 3, 0, 0], [1, 1, 2, 1, 3, 2, 1, 2])
    rows = _unit(generator.normal(0, 1, (8, 5)))
    genuine, impostors = [], []
    for one in range(8):
        for two in range(8):
            score = float(rows[one] @ rows[two])
            people = labels.persons[one], labels.persons[two]
            if people[0] == people[1] != 0 and labels.cameras[one] != labels.cameras[two]:
                genuine.append(score)
            elif people[0] != people[1]:
                impostors.append(score)
    assert (len(genuine), len(impostors)) == (6, 46)
    expected = (np.mean(genuine) - np.mean(impostors)) / np.sqrt((np.var(genuine) + np.var(impostors)) / 2)
    assert separation(rows, labels) == pytest.approx(expected, rel=1e-12)
    assert separation(np.ones((8, 1)), labels) == 0


def test_the_precision_of_people_is_the_mean_of_their_queries():
    labels = Labels.of([7, 7, 5, 5, 9, 0, 0], [1, 2, 1, 2, 1, 1, 2])
    # 7's crops find each other first; a stranger comes between 5's; 9 and 0 are no queries.
    rows = _unit([[1, 0], [1, 0.1], [0, 1], [0.5, 1], [0.2, 1], [-1, 0], [-1, 0]])
    metrics = ranking_of(rows, labels)
    assert metrics.valid_queries == 4
    people = person_precision(metrics.query_ap, labels)
    assert people == pytest.approx([0.5, 1.0])
    assert metrics.mean_ap == pytest.approx(0.75)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.9])
def test_the_chance_is_the_share_of_signs(shift):
    differences = np.random.default_rng(2).normal(shift, 0.7, 11)
    means = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=11)]
    expected = np.mean(np.array(means) >= abs(differences.sum()) - 1e-9)
    assert chance_of(differences) == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000) + 1e-4)


def test_equal_variants_are_never_told_apart():
    assert chance_of(np.zeros(40)) == 1


def test_chances_are_corrected_for_their_number():
    # Holm: the smallest times 4, the next times 3, ... and never below a smaller one's.
    assert corrected([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert corrected([]) == []
