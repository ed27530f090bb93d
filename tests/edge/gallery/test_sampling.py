"""The sample of a gallery: fixed, spread over its rows, with their labels and descriptors."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import create_store, location_of
from rrid_edge.gallery.sampling import SampledMoment, SampledRow, sample_of, sampled
from support.galleries import SPEC, rows, vectors
from support.memory_store import MemoryStore


def test_the_sample_changes_little_with_the_gallery():
    ids = np.arange(10_000, dtype=np.int64)
    first = sampled(ids)
    assert len(first) == 256
    assert np.all(np.diff(first) > 0)
    np.testing.assert_array_equal(sampled(ids[::-1]), first)
    later = sampled(np.arange(10_100, dtype=np.int64))
    assert len(np.intersect1d(first, later)) >= 240
    np.testing.assert_array_equal(sampled(ids[:5][::-1]), ids[:5])


def test_the_sample_is_spread_over_the_gallery():
    thirds = np.histogram(sampled(np.arange(30_000, dtype=np.int64)), bins=3, range=(0, 30_000))[0]
    assert all(60 <= count <= 110 for count in thirds)  # 85 each, give or take three standard deviations


@pytest.mark.parametrize("kind", ["folder", "other"])
def test_a_sample_holds_the_labels_and_descriptors_of_its_rows(tmp_path, kind):
    store = create_store(tmp_path / "g", SPEC) if kind == "folder" else MemoryStore(SPEC)
    stored = vectors(300, 5)
    with store:
        store.add([*rows(298), NewRow(None, label="anna"), NewRow("x/-1.jpg", "f" * 64, person="-1")], stored)
        with store.moment() as moment:
            assert isinstance(moment, SampledMoment) == (kind == "folder")
            found = sample_of(moment, SPEC.dimension, 64)
            again = sample_of(moment, SPEC.dimension, 64)
            by_vector = {
                vector.tobytes(): row for row, vector in zip(moment.rows(), moment.vectors(moment.rows()), strict=True)
            }
    assert 32 <= len(found.rows) <= 64
    assert found.rows == again.rows
    np.testing.assert_array_equal(found.vectors, again.vectors)
    assert found.vectors.shape == (len(found.rows), SPEC.dimension)
    for row, vector in zip(found.rows, found.vectors, strict=True):
        own = by_vector[vector.tobytes()]
        assert row == SampledRow.of(own.person, own.label, own.path)


def test_a_small_gallery_is_its_own_sample(tmp_path):
    with create_store(location_of(tmp_path), SPEC) as store:
        with store.moment() as moment:
            assert sample_of(moment, SPEC.dimension).vectors.shape == (0, SPEC.dimension)
        store.add(rows(5), vectors(5, 1))
        with store.moment() as moment:
            assert len(sample_of(moment, SPEC.dimension).rows) == 5
