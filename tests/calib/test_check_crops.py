"""The crops that a calibration is checked on: all crops of some people, from whom no ranges are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rrid_calib import crops as crops_module
from rrid_calib.calibrate import _read
from rrid_calib.crops import Crop, choose_check, find_crops, labels_of
from rrid_calib.settings import CalibrationSettings
from rrid_edge.crops.naming import read_labels
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.ranking.sampling import PeopleSample
from support.datasets import write_dataset


def _crops(people: int, cameras: int = 3, shots: int = 4) -> list[Crop]:
    """Crops of people, and of 50 distractors and 30 junk crops; no files."""
    names = [
        f"{person:04d}_c{camera}s1_{shot:06d}_01.jpg"
        for person in range(1, people + 1)
        for camera in range(1, cameras + 1)
        for shot in range(shots)
    ]
    names += [f"0000_c{1 + index % 3}s1_{index:06d}_01.jpg" for index in range(50)]
    names += [f"-1_c{1 + index % 3}s1_{index:06d}_01.jpg" for index in range(30)]
    labels = zip(*(values.tolist() for values in read_labels(names)), strict=True)
    return [Crop(Path(name), name, name[:4], name[6], label) for name, label in zip(names, labels, strict=True)]


def test_the_check_takes_whole_people_and_calibration_the_others():
    crops = _crops(60)
    check, others = choose_check(crops, 200, seed=1)
    assert PeopleSample.of(labels_of(check)).describe() == (
        "200 crops of 14 people in 3 cameras, 160 queries, 40 distractors (20 %)"
    )
    people = {crop.person for crop in check} - {"0000"}
    assert len(check) + len(others) == len({crop.name for crop in (*check, *others)}) == len(crops)
    assert not people & {crop.person for crop in others[:560]}
    assert {crop.person for crop in others[-8:]} <= people  # of the person who was cut to fit
    # Calibration stays even over cameras and people; here are 46 people, the distractors and the junk.
    ranged = others[:300]
    assert [sum(crop.camera == str(camera) for crop in ranged[:270]) for camera in (1, 2, 3)] == [90, 90, 90]
    assert len({crop.person for crop in ranged}) >= 46
    assert (check, others) == choose_check(crops, 200, seed=1)
    assert check != choose_check(crops, 200, seed=2)[0]


def test_few_people_give_crops_to_both_parts():
    crops = _crops(2, cameras=2, shots=30)
    check, others = choose_check(crops, 100, seed=0)
    assert PeopleSample.of(labels_of(check)).queries == 80
    assert not {crop.name for crop in check} & {crop.name for crop in others}
    people = {crop.person for crop in check} - {"0000"}
    at = next(index for index, crop in enumerate(others) if crop.person in people)
    assert people >= {crop.person for crop in others[at:]}  # those of other people come first


def test_person_0_of_a_training_split_is_a_person(tmp_path):
    """People to train on are numbered from 0. In names and labels 0 is a distractor."""
    root = write_dataset(tmp_path / "tiny", train=4, test=3, cameras=2, shots=2)
    crops = find_crops(root)
    assert {crop.person for crop in crops} == {"0", "1", "2", "3"}
    assert (
        PeopleSample.of(labels_of(crops)).describe() == "16 crops of 4 people in 2 cameras, 16 queries, 0 distractors"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "{0}_c{1}s1_{2:06d}_01.jpg",
            "accuracy is measured on 20 crops of 4 people in 2 cameras, 20 queries, 0 distractors",
        ),
        (
            "{2:06d}.jpg",
            "accuracy is measured on 20 crops; mAP and rank-1 cannot be measured: no crop has a known person",
        ),
    ],
    ids=["labelled", "unlabelled"],
)
def test_the_check_is_described_or_why_it_cannot_measure_retrieval(tmp_path, monkeypatch, name, words):
    for index in range(60):
        (tmp_path / name.format(f"{1 + index % 10:04d}", 1 + index // 30, index)).touch()
    monkeypatch.setattr(crops_module, "read_image", lambda _path, *size: np.zeros((*size, 3), np.uint8))
    lines: list[str] = []
    ranged, measured = _read(tmp_path, CalibrationSettings(count=30, measured=20), fake_spec(), lines.append)
    assert (len(ranged.crops), len(measured.crops)) == (30, 20)
    assert not {crop.name for crop in ranged.crops} & {crop.name for crop in measured.crops}
    assert len(lines) == 1
    assert lines[0].startswith(words)


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError, match="seed -1 is negative: expected 0 or larger"):
        CalibrationSettings(seed=-1)
