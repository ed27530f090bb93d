"""The crops of a parity check: chosen by people, and what the report says where they cannot measure retrieval."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from rrid_edge.bench.inputs import InputSettings, read_inputs
from rrid_edge.engines import open_engine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ImageError
from rrid_edge.parity import reference
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.parity.reference import Reference, read_crops
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import PeopleSample
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

SPEC = fake_spec()
UNMEASURED = "mAP and rank-1 cannot be measured: no crop has a known person and camera; name files like"


@pytest.fixture
def without_pixels(monkeypatch):
    """Files without content are read as black images, except those called broken."""

    def black(path, height_px, width_px):
        if "broken" in path.name:
            raise ImageError(path, "no image")
        return np.zeros((height_px, width_px, 3), np.uint8)

    monkeypatch.setattr(reference, "read_image", black)


def _touch(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _market(people=60, cameras=(1, 3, 6), shots=4, distractors=150, junk=130):
    """Names of a gallery in Market-1501's style, 1,000 by default."""
    names = [
        f"{person:04d}_c{camera}s1_{shot:06d}_01.jpg"
        for person in range(2, people + 2)
        for camera in cameras
        for shot in range(shots)
    ]
    names += [f"0000_c{1 + index % 6}s2_{index:06d}_00.jpg" for index in range(distractors)]
    return names + [f"-1_c{1 + index % 6}s3_{index:06d}_00.jpg" for index in range(junk)]


def test_a_market_gallery_gives_whole_people_and_distractors_without_junk(tmp_path, without_pixels):
    _touch(tmp_path, _market())
    crops = read_crops(tmp_path, SPEC, 250)
    told = [re.fullmatch(r"(-1|\d{4})_c(\d)s\d_\d{6}_0\d\.jpg", name) for name in crops.names]
    persons = [int(match[1]) for match in told if match]
    assert crops.labels.persons.tolist() == persons
    assert crops.labels.cameras.tolist() == [int(match[2]) for match in told if match]
    assert (persons.count(0), persons.count(-1), len(persons)) == (50, 0, 250)
    assert sorted({persons.count(person) for person in set(persons) - {0}}) == [8, 12]
    assert crops.sample.describe() == (
        "250 crops of 17 people in 6 cameras, 200 queries, 50 distractors (20 %); left out: 130 junk or unlabelled"
    )
    assert list(crops.names) == sorted(crops.names)
    assert crops.names == read_crops(tmp_path, SPEC, 250).names != read_crops(tmp_path, SPEC, 250, seed=1).names


def test_a_market_dataset_is_sampled_over_its_folders(tmp_path, without_pixels):
    """Queries and gallery are one pool here, because every crop is a query."""
    names = _market(people=20, distractors=30, junk=9)
    folders = ["query/" if name.endswith("s1_000000_01.jpg") else "bounding_box_test/" for name in names]
    _touch(tmp_path, [folder + name for folder, name in zip(folders, names, strict=True)])
    crops = read_crops(tmp_path, SPEC, 512)
    assert crops.sample.describe() == (
        "270 crops of 20 people in 6 cameras, 240 queries, 30 distractors (11 %); left out: 9 junk or unlabelled"
    )


def test_a_dataset_in_the_rrid_layout_is_sampled_by_its_names(tmp_path, without_pixels):
    """Person 0 may be a real person in this layout. It counts as distractors, which is right for all other people."""
    names = [
        f"images/{person:08d}_{camera:02d}_{shot:04d}.jpg"
        for person in range(12)
        for camera in (0, 1)
        for shot in (0, 1)
    ]
    _touch(tmp_path, [*names, "images/-0000001_00_0000.jpg", "images/junk_01_0000.jpg"])
    sample = read_crops(tmp_path, SPEC, 512).sample
    assert sample.describe() == (
        "48 crops of 11 people in 2 cameras, 44 queries, 4 distractors (8 %); left out: 2 junk or unlabelled"
    )


def test_unreadable_crops_are_left_out_of_the_sample(tmp_path, without_pixels):
    _touch(tmp_path, [*_market(people=5, distractors=0, junk=0), "0002_c1s1_000009_01_broken.jpg"])
    crops = read_crops(tmp_path, SPEC, 512)
    assert [line.partition(":")[0] for line in crops.left_out] == [str(tmp_path / "0002_c1s1_000009_01_broken.jpg")]
    assert len(crops.names) == len(crops.images) == len(crops.labels) == len(crops.sample) == 60
    assert crops.sample.queries == 60


def test_names_that_tell_nothing_give_evenly_spaced_crops_and_a_remark(tmp_path, without_pixels):
    _touch(tmp_path, [f"{index:03d}.jpg" for index in range(100)])
    crops = read_crops(tmp_path, SPEC, 10)
    assert list(crops.names) == [f"{index:03d}.jpg" for index in range(0, 100, 10)]
    assert UNMEASURED in crops.sample.describe()


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "same.onnx")
    return save_tiny_model(tmp_path / "rrid.onnx")


def _parity(*options):
    return rrid_edge("parity", "rrid.onnx", "--runtime", "onnxruntime", "--output", "p.json", *options)


def test_the_report_carries_the_sample(tmp_path, model):
    save_crops(tmp_path / "crops", 36)
    outcome = _parity("--reference", "same.onnx", "--images", "crops", "--count", 8, "--seed", 3)
    assert outcome.code == 0, outcome
    stored = json.loads((tmp_path / "p.json").read_text())["sample"]
    expected = read_crops(tmp_path / "crops", open_engine(model, "onnxruntime").spec, 8, seed=3).sample
    assert stored == expected.to_dict()
    assert (stored["crops"], stored["queries"]) == (8, 8)
    assert f"sample     {expected.describe()}" in outcome.out
    assert "mAP change" in outcome.out


def test_the_report_says_why_retrieval_is_not_measured(tmp_path, model):
    for index in range(4):
        noise(index).save(tmp_path / f"{index}.jpg")
    outcome = _parity("--reference", "same.onnx", "--images", ".")
    assert outcome.code == 0, outcome
    assert "mAP change" not in outcome.out
    assert f"sample     4 crops; {UNMEASURED}" in outcome.out
    stored = json.loads((tmp_path / "p.json").read_text())["sample"]
    assert (stored["queries"], stored["labelled"]) == (0, False)
    assert UNMEASURED in stored["description"]


def test_goldens_without_labels_name_how_to_write_others(tmp_path, model):
    with open_engine(model, "onnxruntime") as engine:
        images = np.stack([np.asarray(noise(index, 192, 64)) for index in range(3)])
        unknown = Labels.of([-1] * 3, [-1] * 3)
        goldens = Goldens(images, engine.run(images), ("a", "b", "c"), engine.spec.fingerprint, unknown)
    save_goldens(tmp_path / "rrid.goldens.npz", goldens)
    outcome = _parity()
    assert outcome.code == 0, outcome
    assert f"sample     3 crops; {UNMEASURED}" in outcome.out
    assert "or write them from labelled crops with: rrid-edge export CHECKPOINT --crops FOLDER" in outcome.err


def _goldens(labels):
    count = len(labels)
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 192, 64, 3), np.uint8)
    return Goldens(images, np.eye(count, SPEC.dimension, dtype=np.float32), tuple(map(str, range(count))),
                   SPEC.fingerprint, labels)  # fmt: skip


def test_goldens_are_described_by_their_labels_and_limited_by_people(tmp_path):
    labels = Labels.of([1, 1, 2, 2, 3, 3, 0, 0, 0, -1], [1, 2] * 5)
    path = tmp_path / "rrid.goldens.npz"
    save_goldens(path, _goldens(labels))
    whole = Reference.of_goldens(path, SPEC)
    assert whole.sample.describe() == "10 crops of 3 people in 2 cameras, 6 queries, 3 distractors (30 %)"
    assert whole.limited(10) is whole
    few = read_inputs(tmp_path / "rrid.onnx", SPEC, InputSettings(count=5))
    assert (few.sample.queries, few.sample.distractors, few.sample.left_out_junk) == (4, 1, 1)
    rows = few.sample.rows
    assert few.goldens.names == tuple(map(str, rows.tolist()))
    np.testing.assert_array_equal(few.goldens.images[:, 0, 0, 0], rows)
    np.testing.assert_array_equal(few.goldens.descriptors, whole.goldens.descriptors[rows])
    assert PeopleSample.of(few.goldens.labels).queries == 4
