"""A gallery as a dataset of FiftyOne: with a stand-in, and with the package where it is installed."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np
import pytest

from rrid_edge.errors import MissingDependencyError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.library import Gallery
from rrid_edge.integrations.fiftyone import to_dataset
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise, save_crops

NOON = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


class _Dataset:
    def __init__(self, name):
        self.name, self.samples = name, []

    def add_samples(self, samples):
        self.samples += samples


@pytest.fixture
def stand_in(monkeypatch):
    module = SimpleNamespace(Dataset=_Dataset, Sample=lambda filepath, **told: {"filepath": filepath, **told})
    monkeypatch.setitem(sys.modules, "fiftyone", module)


@pytest.fixture
def gallery(tmp_path):
    crops = save_crops(tmp_path / "crops", 2)
    store = MemoryStore(SPEC)
    store.add([NewRow(path.name, camera="1", person="7", frame=4) for path in crops], vectors(2))
    gallery = Gallery(store, writable=True)
    gallery.add(
        vectors(2, 5), camera="dock", time=NOON, track="t", label="Ann", source="box", thumbnails=[noise(1), None]
    )
    return gallery


def _of(gallery, row_id):
    return gallery.store.vectors(gallery.store.rows_by_id([row_id]))[0]


def test_a_sample_per_row_that_has_a_picture(stand_in, gallery, tmp_path):
    dataset = to_dataset(gallery, tmp_path / "crops", thumbnails=tmp_path / "small", name="people")
    assert dataset.name == "people"
    assert len(dataset.samples) == 3  # the fourth row has neither a file nor a thumbnail
    by_id = {sample["row_id"]: sample for sample in dataset.samples}
    file_row, memory_row = by_id[1], by_id[3]
    assert file_row["filepath"] == str((tmp_path / "crops" / gallery.store.rows_by_id([1])[0].path).resolve())
    assert (file_row["camera"], file_row["person"], file_row["frame_number"], file_row["time"]) == ("1", "7", 4, None)
    assert memory_row["filepath"] == str((tmp_path / "small" / "3.jpg").resolve())
    assert (tmp_path / "small" / "3.jpg").read_bytes() == gallery.thumbnails(3)[3]
    assert (tmp_path / "small" / "3.jpg").stat().st_mode & 0o777 == 0o600
    assert (memory_row["time"], memory_row["track"], memory_row["label"]) == (NOON, "t", "Ann")
    gallery.label(2, "-1")
    again = {sample["row_id"]: sample for sample in to_dataset(gallery, tmp_path / "crops").samples}
    assert [again[key]["label_kind"] for key in (1, 2)] == ["person", "junk"]
    for key, sample in by_id.items():
        assert np.array_equal(sample["descriptor"], _of(gallery, key))


def test_rows_without_a_picture_are_left_out_and_sources_chosen(stand_in, gallery, tmp_path):
    assert to_dataset(gallery).samples == []
    assert [sample["row_id"] for sample in to_dataset(gallery.store, tmp_path / "crops").samples] == [1, 2]
    chosen = to_dataset(gallery, tmp_path / "crops", thumbnails=tmp_path / "small", sources=["box"])
    assert [sample["row_id"] for sample in chosen.samples] == [3]


def test_the_missing_package_is_named(monkeypatch, gallery):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingDependencyError, match="pip install fiftyone"):
        to_dataset(gallery)


def test_samples_of_the_real_package(monkeypatch, gallery, tmp_path):
    fiftyone = pytest.importorskip("fiftyone")
    monkeypatch.setattr(fiftyone, "Dataset", _Dataset)  # a real one needs MongoDB
    found = to_dataset(gallery, tmp_path / "crops", thumbnails=tmp_path / "small").samples
    assert [type(sample) for sample in found] == [fiftyone.Sample] * 3
    by_id = {sample["row_id"]: sample for sample in found}
    assert by_id[3].filepath == str((tmp_path / "small" / "3.jpg").resolve())
    assert (by_id[3]["label"], by_id[3]["time"]) == ("Ann", NOON)
    assert np.array_equal(by_id[3]["descriptor"], _of(gallery, 3))


@pytest.mark.filterwarnings("ignore")
def test_a_dataset_of_the_real_package(gallery, tmp_path):
    fiftyone = pytest.importorskip("fiftyone")
    try:
        fiftyone.list_datasets()
    except Exception as error:
        pytest.skip(f"FiftyOne finds no MongoDB: {error}")
    dataset = to_dataset(gallery, tmp_path / "crops", thumbnails=tmp_path / "small", name=f"rrid-{tmp_path.name}")
    try:
        by_id = {sample["row_id"]: sample for sample in dataset}
        assert sorted(by_id) == [1, 2, 3]
        assert np.array_equal(np.asarray(by_id[3]["descriptor"], np.float32), _of(gallery, 3))
    finally:
        dataset.delete()
