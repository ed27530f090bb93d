"""What labels allow to measure, against the evaluation itself and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.measurable import measurable
from rrid_edge.ranking.metrics import RankingSettings, evaluate_ranking


@pytest.mark.parametrize("same_camera", [False, True], ids=["cameras", "sequences"])
@pytest.mark.parametrize("seed", range(3))
def test_valid_queries_are_those_that_the_evaluation_counts(seed, same_camera):
    random = np.random.default_rng(seed)
    query, gallery = (
        Labels.of(random.integers(-1, 30, size), random.integers(1, 3, size), random.integers(0, 4, size))
        for size in (40, 25)
    )
    metrics = evaluate_ranking(random.random((40, 25)), query, gallery, RankingSettings(same_camera=same_camera))
    found = measurable(query, gallery, same_camera=same_camera)
    assert found.valid_queries == metrics.valid_queries
    assert 0 < found.valid_queries < 40
    assert found.thresholds


ONE_CAMERA = Labels.of([1, 1, 2, 2], [3] * 4, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("query", "gallery", "same_camera", "words"),
    [
        (ONE_CAMERA[::2], ONE_CAMERA, False,
         "query: 2 people, 1 camera: no query has a right answer in another camera; mAP and CMC cannot be measured"),
        (ONE_CAMERA[::2], ONE_CAMERA, True,
         "query: 2 people, 1 camera: 2 of 2 queries have a right answer in another file or sequence"),
        (Labels.of([1, 2, 5], [1, 1, 2]), Labels.of([1, 2, 0], [2, 2, 2]), False,
         "query: 3 people, 2 cameras: 2 of 3 queries have a right answer in another camera; the other 1 does "
         "not count"),
        (Labels.of([1], [1]), Labels.of([1, -1], [2, 2]), False,
         "query: 1 person, 1 camera: 1 of 1 queries have a right answer in another camera; there is no crop of "
         "another person, so score thresholds cannot be measured"),
        (Labels.of([], []), Labels.of([1], [2]), False, "query: no images; mAP and CMC cannot be measured"),
        (Labels.of([-1], [1]), Labels.of([-1], [2]), False,
         "query: 0 people, 1 camera: no query has a right answer in another camera; mAP and CMC cannot be measured"),
        (Labels.of([-1, 0, 4], [1, 1, 1]), Labels.of([4, 0], [2, 1]), False,
         "query: 1 person, 1 camera: 1 of 3 queries have a right answer in another camera; the other 2 do not count"),
    ],
    ids=["one camera", "by sequence", "lost", "one person", "no query", "junk", "junk and distractor"],
)  # fmt: skip
def test_what_can_be_measured_is_said_in_one_line(query, gallery, same_camera, words):
    found = measurable(query, gallery, same_camera=same_camera)
    assert found.describe() == words
    if found.ranking:
        found.require_ranking("data")
        return
    with pytest.raises(UsageError, match=r"data: query: .*; add crops of other cameras, or set same_camera") as caught:
        found.require_ranking("data")
    assert caught.value.parameters == ("same_camera",)


def test_nothing_to_measure_within_one_camera_is_refused_too():
    alone = Labels.of([1, 2], [1, 1], [1, 2])
    with pytest.raises(UsageError, match=r"in another file or sequence; .*; check persons and cameras"):
        measurable(alone, alone, same_camera=True).require_ranking("data")
