"""Thresholds per pair: against a slow count over all pairs, with too few pairs, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.thresholds import PairThresholds, count_pairs, measure_thresholds


def _crops(seed=3, people=12, each=6, dimensions=16, noise=1.2):
    random = np.random.default_rng(seed)
    persons = np.repeat(np.arange(-1, people - 1), each)  # -1 junk, 0 distractor
    centres = random.standard_normal((people, dimensions))
    rows = centres[persons + 1] + noise * random.standard_normal((len(persons), dimensions))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows, persons, random.integers(1, 4, len(persons))


def _side(rows, persons, cameras):
    return LabelledCrops(rows, Labels(persons, cameras))


def _slow(query, gallery, q_persons, g_persons, q_cameras, g_cameras, rate):
    genuine, impostor = [], []
    for row, person, camera in zip(query, q_persons, q_cameras, strict=True):
        for other, other_person, other_camera in zip(gallery, g_persons, g_cameras, strict=True):
            if -1 in (person, other_person):
                continue
            score = np.float32(row @ other)
            if person != other_person:
                impostor.append(score)
            elif camera != other_camera:
                genuine.append(score)
    # Try all scores: the threshold is the lowest one that at most this share of the impostor pairs reaches.
    allowed = int(rate * len(impostor) + 1e-9)
    tpr = max(
        np.mean(np.array(genuine) >= score)
        for score in [*genuine, np.float32(2)]
        if np.count_nonzero(np.array(impostor) >= score) <= allowed
    )
    return len(genuine), len(impostor), tpr, np.array(impostor)


@pytest.mark.parametrize("rate", [0.008, 0.01, 0.2])
def test_operating_point_equals_a_count_over_all_pairs(rate):
    rows, persons, cameras = _crops()
    query, labels = rows[::3], (persons[::3], persons, cameras[::3], cameras)
    measured = measure_thresholds(
        _side(query, persons[::3], cameras[::3]), _side(rows, persons, cameras), rates=(rate,)
    )
    genuine, impostors, tpr, scores = _slow(query, rows, *labels, rate)
    assert (measured.genuine_pairs, measured.impostor_pairs) == (genuine, impostors)
    assert count_pairs(Labels(persons[::3], cameras[::3]), Labels(persons, cameras)) == (genuine, impostors)
    point = measured.points[0]
    assert point.tpr == pytest.approx(tpr, abs=1.01 / genuine)  # products of different shapes round differently
    assert point.score is not None
    assert np.count_nonzero(scores >= point.score + 1e-6) <= rate * impostors
    assert np.count_nonzero(scores >= point.score - 1e-5) > rate * impostors


def test_pairs_within_one_camera_are_pairs_of_two_sequences():
    rows, persons, sequences = _crops()
    one_camera = LabelledCrops(rows, Labels(persons, np.ones_like(persons), sequences))
    expected = measure_thresholds(_side(rows, persons, sequences), _side(rows, persons, sequences), rates=(0.01,))
    assert measure_thresholds(one_camera, one_camera, rates=(0.01,), same_camera=True) == expected
    alone = LabelledCrops(rows, Labels(persons, sequences, np.zeros_like(persons)))
    with pytest.raises(UsageError, match="no pairs of one person in two sequences or files"):
        measure_thresholds(alone, alone, same_camera=True)


def test_rates_that_need_more_pairs_have_no_threshold():
    rows, persons, cameras = _crops(people=4)
    measured = measure_thresholds(_side(rows, persons, cameras), _side(rows, persons, cameras), rates=(1e-4, 0.02, 0.1))
    assert measured.impostor_pairs == 18 * 12  # a rate of 0.02 allows 4 of them: fewer than ten
    assert [(point.score is None, point.tpr is None) for point in measured.points] == [(True, True)] * 2 + [
        (False,) * 2
    ]
    with pytest.raises(
        UsageError, match=r"rate of 0\.0001 per pair .* were 216 impostor pairs, .* needs 100,000; take"
    ):
        measured.score(1e-4)
    with pytest.raises(UsageError, match=r"a rate of 0\.02 needs 500"):
        measured.score(0.02)
    assert measured.score(0.1) == measured.points[2].score
    with pytest.raises(UsageError, match=r"expected one of 0\.0001, 0\.02, 0\.1"):
        measured.score(0.5)
    with pytest.raises(UsageError, match=r"was not measured: no rate was measured; add it"):
        PairThresholds(1, 1, ()).score(0.01)


def test_invalid_rates_and_labels_are_refused():
    rows, persons, cameras = _crops()
    with pytest.raises(UsageError, match="between 0 and 1"):
        measure_thresholds(_side(rows, persons, cameras), _side(rows, persons, cameras), rates=(0.0,))
    with pytest.raises(UsageError, match="71 persons and 72 cameras"):
        _side(rows, persons[1:], cameras)
    with pytest.raises(UsageError, match="one person in two cameras"):
        measure_thresholds(_side(rows, persons, cameras * 0), _side(rows, persons, cameras * 0))
