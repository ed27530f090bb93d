"""Measures of rankings: against reference values, hand-made cases and a slow implementation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingSettings, evaluate_descriptors, evaluate_ranking

DATA = Path(__file__).parents[2] / "data"


def evaluate(distances, query_persons, gallery_persons, query_cameras, gallery_cameras, **settings):
    """Takes one argument per array, so that a case is a tuple."""
    query, gallery = Labels.of(query_persons, query_cameras), Labels.of(gallery_persons, gallery_cameras)
    return evaluate_ranking(distances, query, gallery, RankingSettings(**settings))


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "ranking_inputs.npz") as stored:
        inputs = dict(stored)
    query, gallery = inputs["query"].astype(np.float64), inputs["gallery"].astype(np.float64)
    distances = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    labels = (inputs["query_pid"], inputs["gallery_pid"], inputs["query_cam"], inputs["gallery_cam"])
    return distances, labels, inputs, json.loads((DATA / "ranking_expected.json").read_text())


def slow_metrics(distances, query_persons, gallery_persons, query_cameras, gallery_cameras, top_k=(1, 5, 10)):
    """All measures by name, with loops over queries and items. Of items at the same distance, wrong ones come first."""
    precisions, inverse, first, all_shots = [], [], [], []
    for row, person, camera in zip(distances, query_persons, query_cameras, strict=True):
        items = [
            (distance, gallery_person == person)
            for distance, gallery_person, gallery_camera in zip(row, gallery_persons, gallery_cameras, strict=True)
            if gallery_person != -1 and not (gallery_person == person and gallery_camera == camera)
        ]
        items.sort()
        right = [place for place, (_, good) in enumerate(items) if good]
        if not right:
            continue
        # Average precision: at every right answer, the precision among all items at its distance or nearer.
        at = [[good for distance, good in items if distance <= items[place][0]] for place in right]
        precisions.append(np.mean([sum(group) / len(group) for group in at]))
        inverse.append(len(right) / (right[-1] + 1))
        first.append(right[0])
        all_shots.append([place - number for number, place in enumerate(right)])
    return {
        "mean_ap": np.mean(precisions),
        "mean_inp": np.mean(inverse),
        "valid": len(first),
        "market1501": {k: np.mean([place < k for place in first]) for k in top_k},
        "allshots": {k: np.mean([np.mean([wrong < k for wrong in query]) for query in all_shots]) for k in top_k},
    }


def random_case(seed, *, levels=None):
    """A small gallery with junk, distractors and cameras. ``levels`` rounds distances, which makes many ties."""
    random = np.random.default_rng(seed)
    distances = random.random((25, 60))
    if levels:
        distances = np.round(distances * levels) / levels
    return (
        distances,
        random.integers(1, 9, 25),
        random.integers(-1, 9, 60),
        random.integers(1, 4, 25),
        random.integers(1, 4, 60),
    )


@pytest.mark.parametrize("protocol", ["market1501", "allshots"])
def test_agrees_with_the_published_evaluation(reference, protocol):
    distances, labels, _, expected = reference
    # The published code knows no junk: it counts -1 as one more identity.
    got = evaluate(distances, *labels, protocol=protocol, junk_person=None)
    assert got.mean_ap == pytest.approx(expected["mAP"], abs=1e-9)
    assert list(got.cmc.values()) == pytest.approx(expected[f"cmc_{protocol}"], abs=1e-9)
    assert got.valid_queries == 120


def test_single_shot_agrees_with_the_published_evaluation_within_its_noise(reference):
    distances, labels, _, expected = reference
    got = evaluate(distances, *labels, protocol="cuhk03", junk_person=None, draws=1000)
    # Standard error of the published mean: sqrt(p (1 - p) / (120 queries x 200 draws)), at most 0.0033.
    assert list(got.cmc.values()) == pytest.approx(expected["cmc_cuhk03_mean_of_20"], abs=0.01)


@pytest.mark.parametrize("levels", [None, 6])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_slow_implementation(seed, levels):
    case = random_case(seed, levels=levels)
    slow = slow_metrics(*case)
    for protocol in ("market1501", "allshots"):
        got = evaluate(*case, protocol=protocol)
        assert got.mean_ap == pytest.approx(slow["mean_ap"])
        assert got.mean_inp == pytest.approx(slow["mean_inp"])
        assert got.valid_queries == slow["valid"]
        assert got.cmc == pytest.approx(slow[protocol])


def test_leaving_junk_out_equals_a_gallery_without_it(reference):
    distances, (query_persons, gallery_persons, query_cameras, gallery_cameras), _, _ = reference
    kept = gallery_persons != -1
    got = evaluate(distances, query_persons, gallery_persons, query_cameras, gallery_cameras)
    expected = evaluate(
        distances[:, kept], query_persons, gallery_persons[kept], query_cameras, gallery_cameras[kept], junk_person=None
    )
    assert got == expected
    assert got.mean_ap > 0.2143


def test_distractors_count_as_wrong():
    got = evaluate([[0.1, 0.2]], [7], [0, 7], [1], [2, 2])
    assert (got.mean_ap, got.cmc[1], got.cmc[5]) == (0.5, 0.0, 1.0)


def test_cmc_of_hand_made_cases():
    distances = [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 3, 4, 0]]
    got = evaluate(distances, range(5), range(5), [0] * 5, [1] * 5, top_k=(1, 2, 3, 4, 5))
    assert list(got.cmc.values()) == pytest.approx([0.6, 0.6, 0.8, 1, 1])
    assert got.query_first_rank.tolist() == [1, 1, 3, 4, 1]


@pytest.mark.parametrize(
    ("right", "step", "trapezoid"),
    [
        ([0, 1, 3], 0.9166, 0.9028),
        ([0, 3, 4], 0.7, 0.6556),
        ([1, 2, 4], 0.5888, 0.4611),
        ([2, 3, 4], 0.4777, 0.3778),
        ([0], 1, 1),
        ([3], 0.25, 0.125),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_average_precision_of_hand_made_cases(right, step, trapezoid, dtype):
    gallery = [1 if place in right else 2 for place in range(5)]
    distances = np.arange(5, dtype=dtype)[None]
    assert evaluate(distances, [1], gallery, [0], [1] * 5).mean_ap == pytest.approx(step, abs=1e-4)
    got = evaluate(distances, [1], gallery, [0], [1] * 5, ap="trapezoid")
    assert got.mean_ap == pytest.approx(trapezoid, abs=1e-4)


def test_a_constant_descriptor_is_not_rewarded_for_ties():
    # 2 right answers among 10 equal ones: precision 0.2 (as scikit-learn has it), right answers behind all wrong ones.
    got = evaluate(np.zeros((1, 10)), [1], [1, 1] + [2] * 8, [0], [1] * 10)
    assert got.mean_ap == pytest.approx(0.2)
    assert got.cmc == {1: 0, 5: 0, 10: 1}
    assert got.mean_inp == pytest.approx(0.2)


def test_single_shot_agrees_with_all_possible_galleries():
    random = np.random.default_rng(3)
    gallery_persons = np.array([1, 1, 1, 2, 2, 3, 0, 0, 1])
    gallery_cameras = np.array([2, 2, 3, 2, 3, 2, 2, 3, 1])  # the last is from the query's camera
    row = random.random(9)
    others = [np.flatnonzero((gallery_persons == person) & (gallery_cameras != 1)) for person in (1, 2, 3, 0)]
    places = [sum(row[item] < row[drawn[0]] for item in drawn[1:]) for drawn in itertools.product(*others)]
    got = evaluate(
        row[None], [1], gallery_persons, [1], gallery_cameras, protocol="cuhk03", top_k=(1, 2, 3, 4), draws=20_000
    )
    expected = [np.mean(np.array(places) < k) for k in (1, 2, 3, 4)]
    assert list(got.cmc.values()) == pytest.approx(expected, abs=0.015)  # 4 standard errors of 20,000 draws


def test_single_shot_draws_repeat_with_the_seed():
    case = random_case(5)
    once, again = (evaluate(*case, protocol="cuhk03", draws=3, seed=4) for _ in range(2))
    assert once == again
    assert once != evaluate(*case, protocol="cuhk03", draws=3, seed=5)


def test_camera_pairs_equal_evaluations_with_one_gallery_camera():
    distances, query_persons, gallery_persons, query_cameras, gallery_cameras = random_case(8)
    got = evaluate(distances, query_persons, gallery_persons, query_cameras, gallery_cameras, per_camera=True)
    assert [(pair.query_camera, pair.gallery_camera) for pair in got.camera_pairs] == [
        (a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b
    ]
    for pair in got.camera_pairs:
        rows, columns = query_cameras == pair.query_camera, gallery_cameras == pair.gallery_camera
        slow = slow_metrics(
            distances[np.ix_(rows, columns)],
            query_persons[rows],
            gallery_persons[columns],
            query_cameras[rows],
            gallery_cameras[columns],
        )
        assert pair.queries == slow["valid"]
        assert pair.mean_ap == pytest.approx(slow["mean_ap"])
        assert pair.rank_1 == pytest.approx(slow["market1501"][1])


@pytest.mark.parametrize("protocol", ["market1501", "allshots", "cuhk03"])
def test_within_one_camera_only_the_own_sequence_is_left_out(protocol):
    """Data of one camera, by sequence, equals data of so many cameras as there are sequences."""
    distances, query_persons, gallery_persons, query_sequences, gallery_sequences = random_case(4)
    query = Labels.of(query_persons, np.ones(25, int), query_sequences)
    gallery = Labels.of(gallery_persons, np.ones(60, int), gallery_sequences)
    settings = RankingSettings(protocol=protocol, same_camera=True, per_camera=True)
    got = evaluate_ranking(distances, query, gallery, settings)
    expected = evaluate(
        distances, query_persons, gallery_persons, query_sequences, gallery_sequences, protocol=protocol
    )
    assert (got.mean_ap, got.mean_inp, got.cmc) == (expected.mean_ap, expected.mean_inp, expected.cmc)
    assert got.query_ap == pytest.approx(expected.query_ap, nan_ok=True)
    assert (got.same_camera, expected.same_camera) == (True, False)
    # The only pair of cameras is the camera with itself, under the same rule.
    pair = got.camera_pairs[0]
    assert (pair.query_camera, pair.gallery_camera, pair.queries) == (1, 1, got.valid_queries)
    assert pair.mean_ap == pytest.approx(got.mean_ap)


def test_many_sequences_do_not_fill_the_memory_of_single_shots(monkeypatch):
    monkeypatch.setattr("rrid_edge.ranking.ranks._MOST_VIEWS", 2)
    case = random_case(6)
    few = evaluate(*case, protocol="cuhk03")
    monkeypatch.undo()
    assert few == evaluate(*case, protocol="cuhk03")


def test_same_camera_needs_sequences():
    with pytest.raises(UsageError, match="same_camera needs the sequence or file of each crop"):
        evaluate(**GOOD, same_camera=True)
    with pytest.raises(UsageError, match="2 persons and 1 sequences"):
        Labels.of([1, 2], [1, 1], [1])


def test_each_query_has_its_average_precision():
    case = random_case(9)
    got = evaluate(*case)
    assert got.valid_queries == 25
    for number in range(25):
        alone = slow_metrics(case[0][[number]], case[1][[number]], case[2], case[3][[number]], case[4])
        assert got.query_ap[number] == pytest.approx(alone["mean_ap"])


def test_a_query_without_right_answers_is_not_counted():
    got = evaluate([[0.0, 1.0], [1.0, 0.0]], [1, 5], [1, 2], [1, 1], [2, 2])
    assert got.valid_queries == 1
    assert np.isnan(got.query_ap[1])
    assert got.query_first_rank.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_descriptors_give_the_measures_of_the_whole_matrix(reference, monkeypatch, dtype):
    monkeypatch.setattr("rrid_edge.ranking.metrics.QUERY_BLOCK", 32)
    distances, labels, inputs, _ = reference
    query, gallery = inputs["query"].astype(dtype), inputs["gallery"].astype(dtype)
    settings = RankingSettings(per_camera=True, protocol="cuhk03")
    sides = LabelledCrops(query, Labels(labels[0], labels[2])), LabelledCrops(gallery, Labels(labels[1], labels[3]))
    got = evaluate_descriptors(*sides, settings)
    expected = evaluate(distances, *labels, protocol="cuhk03", per_camera=True)
    # Rounding to float32 swaps neighbours that are closer than 1e-7: one swap moves a query's AP by less than 1e-3.
    allowed = 1e-9 if dtype is np.float64 else 1e-4
    assert got.mean_ap == pytest.approx(expected.mean_ap, abs=allowed)
    assert got.cmc == pytest.approx(expected.cmc, abs=allowed)
    assert [pair.mean_ap for pair in got.camera_pairs] == pytest.approx(
        [pair.mean_ap for pair in expected.camera_pairs], abs=10 * allowed
    )


GOOD = {
    "distances": np.zeros((2, 3)),
    "query_persons": [1, 2],
    "gallery_persons": [1, 2, 3],
    "query_cameras": [1, 1],
    "gallery_cameras": [2, 2, 2],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distances": np.zeros(3)}, r"expected real numbers \(queries, gallery\)"),
        ({"distances": np.zeros((2, 3), complex)}, "complex128"),
        ({"distances": np.array([["a", "b", "c"]] * 2)}, "expected real numbers"),
        ({"distances": np.array([[0, 1, np.nan], [0, 1, 2]])}, "NaN or infinite"),
        ({"distances": np.array([[0, 1, 2], [0, 1, np.inf]])}, "NaN or infinite"),
        ({"query_persons": [1]}, "1 persons and 2 cameras: expected one of each per crop"),
        ({"query_persons": [1], "query_cameras": [1]}, "1 query labels for 2 query rows: expected one label per row"),
        ({"gallery_persons": [1, 2]}, "2 persons and 3 cameras"),
        ({"gallery_persons": [1, 2], "gallery_cameras": [2, 2]}, "2 gallery labels for 3 gallery rows"),
        ({"query_cameras": [1.5, 2.5]}, "cameras of dtype float64 .* expected whole numbers, one per crop"),
        ({"gallery_cameras": [[2, 2, 2]]}, r"cameras .* shape \(1, 3\)"),
        ({"gallery_persons": [7, 8, 9]}, "no query is valid: expected at least one gallery item"),
        ({"gallery_cameras": [1, 1, 1]}, "no query is valid: expected at least one gallery item"),
        (
            {"distances": np.zeros((2, 0)), "gallery_persons": [], "gallery_cameras": []},
            "no query is valid: expected at least one gallery item",
        ),
        (
            {"distances": np.zeros((0, 3)), "query_persons": [], "query_cameras": []},
            "no query is valid: expected at least one gallery item",
        ),
        ({"protocol": "market"}, "expected one of market1501, allshots, cuhk03"),
        ({"ap": "area"}, "expected one of step, trapezoid"),
        ({"top_k": (0, 5)}, "ranks of at least 1"),
        ({"top_k": ()}, "ranks of at least 1"),
        ({"draws": 0}, "draws 0 does not work: expected at least 1"),
    ],
)
def test_invalid_input_is_refused_in_one_line(change, words):
    with pytest.raises(UsageError, match=words) as caught:
        evaluate(**{**GOOD, **change})
    assert "\n" not in caught.value.message


def _crops(shape, count):
    return LabelledCrops(np.zeros(shape), Labels.of(range(1, count + 1), [1] * count))


def test_descriptors_of_different_lengths_are_refused():
    with pytest.raises(UsageError, match=r"\(2, 4\) and \(3, 5\)"):
        evaluate_descriptors(_crops((2, 4), 2), _crops((3, 5), 3))


def test_different_numbers_of_crops_and_labels_are_refused():
    with pytest.raises(UsageError, match="2 descriptor labels for 3 descriptor rows"):
        _crops((3, 4), 2)
    with pytest.raises(UsageError, match=r"shape \(3,\): expected \(crops, D\)"):
        _crops((3,), 3)


def test_labels_of_selected_crops():
    labels = Labels.of([1, 2, 3], [4, 5, 6])
    assert Labels.of([1, 2, 3], [4, 5, 6], [7, 8, 9])[1:].views(True).tolist() == [8, 9]
    some = labels[np.array([True, False, True])]
    assert (some.persons.tolist(), some.cameras.tolist(), len(some)) == ([1, 3], [4, 6], 2)
    assert len(Labels.of([], [])) == 0
