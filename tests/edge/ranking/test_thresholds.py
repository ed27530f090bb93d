"""Thresholds at false-positive rates: against a slow count over all pairs, and where they are kept and found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.names import thresholds_candidates, thresholds_path
from rrid_edge.ranking.thresholds import Thresholds, find_thresholds, measure_thresholds, save_thresholds, threshold_for


def _crops(seed=3, identities=12, each=6, dimensions=16, noise=1.2):
    random = np.random.default_rng(seed)
    pids = np.repeat(np.arange(-1, identities - 1), each)  # -1 junk, 0 distractor
    centres = random.standard_normal((identities, dimensions))
    rows = centres[pids + 1] + noise * random.standard_normal((len(pids), dimensions))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows, pids, random.integers(1, 4, len(pids))


def _slow(query, gallery, q_pids, g_pids, q_cams, g_cams, rate):
    genuine, impostor = [], []
    for row, pid, camera in zip(query, q_pids, q_cams, strict=True):
        for other, other_pid, other_camera in zip(gallery, g_pids, g_cams, strict=True):
            if -1 in (pid, other_pid):
                continue
            score = np.float32(row @ other)
            if pid != other_pid:
                impostor.append(score)
            elif camera != other_camera:
                genuine.append(score)
    # The lowest score that at most this share of the impostors reaches: try all scores that occur.
    allowed = int(rate * len(impostor) + 1e-9)
    tpr = max(
        np.mean(np.array(genuine) >= score)
        for score in [*genuine, np.float32(2)]
        if np.count_nonzero(np.array(impostor) >= score) <= allowed
    )
    return len(genuine), len(impostor), tpr, np.array(impostor)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2])
def test_operating_point_equals_a_count_over_all_pairs(rate):
    rows, pids, cams = _crops()
    query, labels = rows[::3], (pids[::3], pids, cams[::3], cams)
    measured = measure_thresholds(query, rows, *labels, rates=(rate,))
    genuine, impostors, tpr, scores = _slow(query, rows, *labels, rate)
    assert (measured.genuine_pairs, measured.impostor_pairs) == (genuine, impostors)
    point = measured.points[0]
    assert point.tpr == pytest.approx(tpr, abs=1.01 / genuine)  # products of different shapes round differently
    assert point.score is not None
    assert np.count_nonzero(scores >= point.score + 1e-6) <= rate * impostors
    assert np.count_nonzero(scores >= point.score - 1e-5) > rate * impostors


def test_too_few_pairs_are_said_not_guessed(tmp_path):
    rows, pids, cams = _crops(identities=4)
    measured = measure_thresholds(
        rows, rows, pids, pids, cams, cams, fingerprint="a" * 64, dataset="tiny", rates=(1e-4,)
    )
    assert measured.points[0].score is None
    assert measured.points[0].tpr is None
    path = tmp_path / "rrid.thresholds.json"
    save_thresholds(path, measured)
    with pytest.raises(UsageError, match=r"tiny has \d+ impostor pairs, and a rate of 0\.0001 needs 10,000"):
        threshold_for([path], "a" * 64, 1e-4)


def test_kept_beside_the_model_and_found_by_fingerprint(tmp_path):
    rows, pids, cams = _crops()
    measured = measure_thresholds(
        rows, rows, pids, pids, cams, cams, fingerprint="f" * 64, dataset="d", rates=(0.01, 0.1)
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
    with pytest.raises(UsageError, match=r"expected one of 0\.01, 0\.1"):
        threshold_for(full, "f" * 64, 0.5)


def test_own_thresholds_come_first_and_a_renamed_model_finds_those_beside_it(tmp_path):
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


def test_damaged_and_newer_files_are_refused(tmp_path):
    path = tmp_path / "rrid.thresholds.json"
    path.write_text("{")
    with pytest.raises(ModelFileError, match="damaged thresholds"):
        find_thresholds([path], "f")
    path.write_text(json.dumps({**Thresholds("f", "d", 1, 1, ()).to_dict(), "format": 99}))
    with pytest.raises(ModelFileError, match="format 99, expected 1"):
        find_thresholds([path], "f")


def test_wrong_rates_and_labels_are_refused():
    rows, pids, cams = _crops()
    with pytest.raises(UsageError, match="between 0 and 1"):
        measure_thresholds(rows, rows, pids, pids, cams, cams, rates=(0.0,))
    with pytest.raises(UsageError, match="expected 72 whole numbers"):
        measure_thresholds(rows, rows, pids[1:], pids, cams, cams)
    with pytest.raises(UsageError, match="one person in two cameras"):
        measure_thresholds(rows, rows, pids, pids, cams * 0, cams * 0)
