"""The file of thresholds beside a model: records per dataset, which is in use, damage and other formats."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.names import thresholds_candidates, thresholds_path
from rrid_edge.ranking.threshold_file import (
    FORMAT,
    FoundThresholds,
    ModelThresholds,
    carry_thresholds,
    find_thresholds,
    merged,
    read_thresholds,
    replaceable_at,
    require_thresholds,
    save_thresholds,
)
from rrid_edge.ranking.thresholds import Threshold
from support.thresholds import keep, open_set, record

POINT = Threshold(0.01, 0.5, 0.9)


def _content(**change):
    stored = ModelThresholds("f", "d", (record("d", (POINT,), open_set()),))
    content = json.loads(json.dumps({"format": FORMAT, **asdict(stored)}))
    for place, value in change.items():
        *inner, last = place.split("__")
        at = content if place in ("format", "fingerprint", "in_use", "datasets") else content["datasets"][0]
        for key in inner:
            at = at[int(key) if key.isdecimal() else key]
        at[last] = value
    return content


def test_thresholds_are_stored_next_to_the_model_and_found_by_fingerprint(tmp_path):
    measured = record("d", (POINT, Threshold(0.1, 0.4, 0.95)), open_set())
    full, half, engine = (
        thresholds_candidates(tmp_path / name) for name in ("rrid.onnx", "rrid.fp16.onnx", "rrid.engine")
    )
    path = keep(tmp_path / "rrid.onnx", "f" * 64, measured)
    assert path.name == "rrid.thresholds.json"
    for candidates in (full, half):  # also for another precision of the network
        assert find_thresholds(candidates, "f" * 64) == FoundThresholds(path, measured)
    assert find_thresholds(full, "0" * 64) is None
    found = require_thresholds(engine, "f" * 64)
    assert found.pair_score(0.1) == 0.4
    assert found.search_threshold(0.1).score(1000) == pytest.approx(0.5)
    with pytest.raises(UsageError, match="no thresholds of this network"):
        require_thresholds(full, "0" * 64)
    named = r"rrid\.thresholds\.json \(d\): "
    with pytest.raises(UsageError, match=named + r".* expected one of 0\.01, 0\.1; add it with") as caught:
        found.pair_score(0.5)
    assert caught.value.parameters == ("fpr",)
    with pytest.raises(UsageError, match=named + r".* per search .*: expected 0\.01 to 0\.1") as caught:
        found.search_threshold(0.5)
    assert caught.value.parameters == ("fpir",)


def test_own_thresholds_come_first_and_a_renamed_model_finds_its_neighbours(tmp_path):
    def found(name: str, fingerprint: str) -> str | None:
        thresholds = find_thresholds(thresholds_candidates(tmp_path / name), fingerprint)
        return thresholds.record.dataset if thresholds else None

    for name in ("person.v2.int8.onnx", "person.v2.onnx", "person.v3.onnx"):
        keep(tmp_path / name, name[:9], record(name))
    assert found("person.v2.int8.engine", "person.v2") == "person.v2.int8.onnx"
    assert found("person.v2.fp32.engine", "person.v2") == "person.v2.onnx"
    assert found("person.v2.fp16.onnx", "person.v2") == "person.v2.onnx"  # not those of int8
    assert found("person.v3.onnx", "person.v3") == "person.v3.onnx"
    assert found("renamed.onnx", "person.v3") == "person.v3.onnx"


def test_another_dataset_is_added_and_does_not_come_into_use_by_itself(tmp_path):
    path = thresholds_path(tmp_path / "rrid.onnx")
    stored = merged(None, "f", [record("market")])
    stored = merged(stored, "f", [record("lobby", (POINT,))])
    assert (stored.in_use, stored.names) == ("market", ["market", "lobby"])
    again = merged(stored, "f", [record("market", people=9)])
    assert (again.in_use, again.of("market"), len(again.names)) == ("market", record("market", people=9), 2)
    used = merged(stored, "f", [record("lobby")], use=True)
    assert (used.in_use, used.of(None)) == ("lobby", record("lobby"))
    save_thresholds(path, stored)
    assert read_thresholds(path) == stored
    assert require_thresholds([path], "f").record.describe() == "thresholds of market, 7 people"
    assert require_thresholds([path], "f", "lobby").pair_score(0.01) == 0.5
    with pytest.raises(UsageError, match=r"no thresholds of home: expected one of market, lobby") as caught:
        require_thresholds([path], "f", "home")
    assert caught.value.parameters == ("thresholds_of",)
    # A dataset that the model's own file lacks is found beside it.
    other = keep(tmp_path / "rrid.int8.onnx", "f", record("home"))
    assert require_thresholds(thresholds_candidates(tmp_path / "rrid.onnx"), "f", "home").path == other


def test_carried_thresholds_leave_what_is_there(tmp_path):
    path = keep(tmp_path / "best.onnx", "f", record("market", people=1), record("lobby", people=1))
    there = tmp_path / "rrid.thresholds.json"
    carry_thresholds([tmp_path / "none.json", path], "0", there)
    assert not there.exists()
    carry_thresholds([tmp_path / "none.json", path], "f", there)
    assert read_thresholds(there) == read_thresholds(path)
    save_thresholds(there, ModelThresholds("f", "lobby", (record("lobby", people=2),)))
    carry_thresholds([path], "f", there)
    stored = read_thresholds(there)
    assert stored == ModelThresholds("f", "lobby", (record("lobby", people=2), record("market", people=1)))
    for text in ("{", json.dumps(asdict(ModelThresholds("0", "d", (record("d"),))) | {"format": FORMAT})):
        there.write_text(text)
        carry_thresholds([path], "f", there)
        assert read_thresholds(there) == read_thresholds(path)


def test_damaged_files_and_other_formats_are_refused(tmp_path):
    path = tmp_path / "rrid.thresholds.json"
    path.write_text("{")
    with pytest.raises(ModelFileError, match="damaged thresholds"):
        find_thresholds([path], "f")
    stored, damage = replaceable_at(path, "f")
    assert stored is None
    assert "damaged thresholds" in damage
    path.write_text(json.dumps(_content(format=99)))
    for read in (lambda: find_thresholds([path], "f"), lambda: replaceable_at(path, "f")):
        with pytest.raises(ModelFileError, match="format 99, expected at most 2"):
            read()
    old = {"format": 1, "fingerprint": "f", "dataset": "d", "genuine_pairs": 1, "impostor_pairs": 1, "points": []}
    path.write_text(json.dumps(old))
    refused = r"rrid\.thresholds\.json: thresholds of format 1, expected 2; measure them again with: rrid-edge eval"
    with pytest.raises(ModelFileError, match=refused):
        find_thresholds([path], "f")
    assert "format 1, expected 2" in replaceable_at(path, "f")[1]


PAIR = {"fpr": 0.01, "score": 0.5, "tpr": 0.9}
RATE: dict[str, object] = {"fpir": 0.01, "growth": None, "points": []}


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("pairs__points", [{**PAIR, "fpr": 0}], "fpr"),
        ("pairs__points", [{**PAIR, "fpr": 1}], "fpr"),
        ("pairs__points", [{**PAIR, "fpr": "0.01"}], "fpr"),
        ("pairs__points", [{**PAIR, "score": 1.5}], "score"),
        ("pairs__points", [{**PAIR, "score": -3}], "score"),
        ("pairs__points", [{**PAIR, "score": [0.5]}], "score"),
        ("pairs__points", [{**PAIR, "tpr": 1.5}], "tpr"),
        ("pairs__points", [{**PAIR, "tpr": None}], "without a true-positive rate"),
        ("pairs__points", [PAIR, PAIR], "ascending"),
        ("pairs__points", [PAIR, {**PAIR, "fpr": 0.001}], "ascending"),
        ("pairs__points", {"0.01": 0.5}, "points"),
        ("pairs__points", [[[[]]]], "points"),
        ("pairs__genuine_pairs", -1, "genuine_pairs"),
        ("pairs__impostor_pairs", 1.5, "impostor_pairs"),
        ("pairs__impostor_pairs", True, "impostor_pairs"),
        ("searches__sizes", [100, 10, 1000], "ascending"),
        ("searches__sizes", [100, 1000], "points of other sizes"),
        ("searches__sizes", [0], "sizes"),
        ("searches__rates", [RATE, RATE], "ascending"),
        ("searches__rates", [{**RATE, "fpir": 1}], "fpir"),
        ("searches__rates", [{**RATE, "growth": 0.5}], "growth"),
        ("searches__people", -1, "people"),
        ("searches__held_out", [{"fpir": 0.1, "size": 5, "measured": [0.1]}], "measured"),
        ("people", "7", "people"),
        ("same_camera", 1, "same_camera"),
        ("dataset", 3, "dataset"),
        ("fingerprint", None, "fingerprint"),
        ("in_use", "other", "no record of the dataset in use"),
        ("datasets", [], "no record of the dataset in use"),
        ("format", 0, "format"),
        ("format", None, "format"),
    ],
)
def test_wrong_types_and_ranges_are_refused_by_name(tmp_path, place, value, reason):
    path = tmp_path / "rrid.thresholds.json"
    path.write_text(json.dumps(_content(**{place: value})))
    with pytest.raises(ModelFileError, match="measure them again") as caught:
        find_thresholds([path], "f")
    assert caught.value.message.startswith(f"{path}: damaged thresholds (")
    assert reason in caught.value.message


def test_two_records_of_one_dataset_are_refused(tmp_path):
    path = tmp_path / "rrid.thresholds.json"
    content = _content()
    path.write_text(json.dumps({**content, "datasets": content["datasets"] * 2}))
    with pytest.raises(ModelFileError, match="two records of one dataset"):
        read_thresholds(path)
