"""Thresholds at false-positive rates: against a slow count over all pairs, and where they are stored and found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.names import thresholds_candidates, thresholds_path
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.thresholds import Thresholds, find_thresholds, measure_thresholds, save_thresholds, threshold_for


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


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2])
def test_operating_point_equals_a_count_over_all_pairs(rate):
    rows, persons, cameras = _crops()
    query, labels = rows[::3], (persons[::3], persons, cameras[::3], cameras)
    measured = measure_thresholds(
        _side(query, persons[::3], cameras[::3]), _side(rows, persons, cameras), rates=(rate,)
    )
    genuine, impostors, tpr, scores = _slow(query, rows, *labels, rate)
    assert (measured.genuine_pairs, measured.impostor_pairs) == (genuine, impostors)
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


def test_rates_that_need_more_pairs_have_no_threshold(tmp_path):
    rows, persons, cameras = _crops(people=4)
    measured = measure_thresholds(
        _side(rows, persons, cameras),
        _side(rows, persons, cameras),
        fingerprint="a" * 64,
        dataset="tiny",
        rates=(1e-4,),
    )
    assert measured.points[0].score is None
    assert measured.points[0].tpr is None
    path = tmp_path / "rrid.thresholds.json"
    save_thresholds(path, measured)
    with pytest.raises(
        UsageError, match=r"rrid\.thresholds\.json: .* tiny has \d+ impostor pairs, and a rate of 0\.0001 needs 10,000"
    ):
        threshold_for([path], "a" * 64, 1e-4)


def test_thresholds_are_stored_next_to_the_model_and_found_by_fingerprint(tmp_path):
    rows, persons, cameras = _crops()
    measured = measure_thresholds(
        _side(rows, persons, cameras),
        _side(rows, persons, cameras),
        fingerprint="f" * 64,
        dataset="d",
        rates=(0.01, 0.1),
    )
    full, half, engine = (
        thresholds_candidates(tmp_path / name) for name in ("rrid.onnx", "rrid.fp16.onnx", "rrid.engine")
    )
    path = thresholds_path(tmp_path / "rrid.onnx")
    save_thresholds(path, measured)
    assert path.name == "rrid.thresholds.json"
    assert find_thresholds(full, "f" * 64) == measured
    assert find_thresholds(half, "f" * 64) == measured  # another precision of the network
    assert find_thresholds(full, "0" * 64) is None
    assert threshold_for(engine, "f" * 64, 0.1) == measured.points[1].score
    with pytest.raises(UsageError, match="no thresholds of this network"):
        threshold_for(full, "0" * 64, 0.1)
    with pytest.raises(UsageError, match=r"rrid\.thresholds\.json: .* expected one of 0\.01, 0\.1"):
        threshold_for(full, "f" * 64, 0.5)


def test_own_thresholds_come_first_and_a_renamed_model_finds_its_neighbours(tmp_path):
    def keep(name: str, fingerprint: str) -> None:
        save_thresholds(thresholds_path(tmp_path / name), Thresholds(fingerprint, name, 1, 1, ()))

    def found(name: str, fingerprint: str) -> str | None:
        thresholds = find_thresholds(thresholds_candidates(tmp_path / name), fingerprint)
        return thresholds.dataset if thresholds else None

    for name in ("person.v2.int8.onnx", "person.v2.onnx", "person.v3.onnx"):
        keep(name, name[:9])
    assert found("person.v2.int8.engine", "person.v2") == "person.v2.int8.onnx"
    assert found("person.v2.fp32.engine", "person.v2") == "person.v2.onnx"
    assert found("person.v2.fp16.onnx", "person.v2") == "person.v2.onnx"  # not those of int8
    assert found("person.v3.onnx", "person.v3") == "person.v3.onnx"
    assert found("renamed.onnx", "person.v3") == "person.v3.onnx"


def test_damaged_files_and_other_formats_are_refused(tmp_path):
    path = tmp_path / "rrid.thresholds.json"
    path.write_text("{")
    with pytest.raises(ModelFileError, match="damaged thresholds"):
        find_thresholds([path], "f")
    path.write_text(json.dumps({**Thresholds("f", "d", 1, 1, ()).to_dict(), "format": 99}))
    with pytest.raises(ModelFileError, match="format 99, expected at most 1"):
        find_thresholds([path], "f")


POINT = {"fpr": 0.01, "score": 0.5, "tpr": 0.9}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": [{**POINT, "fpr": 0}]}, "fpr"),
        ({"points": [{**POINT, "fpr": 1}]}, "fpr"),
        ({"points": [{**POINT, "fpr": "0.01"}]}, "fpr"),
        ({"points": [{**POINT, "score": 1.5}]}, "score"),
        ({"points": [{**POINT, "score": -3}]}, "score"),
        ({"points": [{**POINT, "score": [0.5]}]}, "score"),
        ({"points": [{**POINT, "tpr": 1.5}]}, "tpr"),
        ({"points": [{**POINT, "tpr": None}]}, "without a true-positive rate"),
        ({"points": [POINT, POINT]}, "ascending"),
        ({"points": [POINT, {**POINT, "fpr": 0.001}]}, "ascending"),
        ({"points": {"0.01": 0.5}}, "points"),
        ({"points": [[[[]]]]}, "points"),
        ({"genuine_pairs": -1}, "genuine_pairs"),
        ({"impostor_pairs": 1.5}, "impostor_pairs"),
        ({"impostor_pairs": True}, "impostor_pairs"),
        ({"fingerprint": None}, "fingerprint"),
        ({"dataset": 3}, "dataset"),
        ({"format": 0}, "format"),
        ({"format": None}, "format"),
    ],
)
def test_wrong_types_and_ranges_are_refused_by_name(tmp_path, change, reason):
    path = tmp_path / "rrid.thresholds.json"
    path.write_text(json.dumps({**Thresholds("f", "d", 1, 1, ()).to_dict(), **change}))
    with pytest.raises(ModelFileError, match="measure them again") as caught:
        find_thresholds([path], "f")
    assert caught.value.message.startswith(f"{path}: damaged thresholds (")
    assert reason in caught.value.message


def test_a_file_without_rates_is_named(tmp_path):
    path = tmp_path / "rrid.thresholds.json"
    save_thresholds(path, Thresholds("f", "d", 1, 1, ()))
    with pytest.raises(
        UsageError, match=r"^.*rrid\.thresholds\.json: .* was not measured: no rate was measured; add it"
    ):
        threshold_for([path], "f", 0.01)


def test_invalid_rates_and_labels_are_refused():
    rows, persons, cameras = _crops()
    with pytest.raises(UsageError, match="between 0 and 1"):
        measure_thresholds(_side(rows, persons, cameras), _side(rows, persons, cameras), rates=(0.0,))
    with pytest.raises(UsageError, match="71 persons and 72 cameras"):
        _side(rows, persons[1:], cameras)
    with pytest.raises(UsageError, match="one person in two cameras"):
        measure_thresholds(_side(rows, persons, cameras * 0), _side(rows, persons, cameras * 0))
