"""Decoded vectors that later states of a growing gallery take over."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.local import schema, snapshot, view
from rrid_edge.gallery.local.decoding import decode
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, answered, path_of, rows, slow_search, vectors


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_answers_stay_right_while_a_gallery_grows_forgets_and_compacts(tmp_path, dtype):
    stored: dict[str, np.ndarray] = {}
    queries = vectors(9, seed=7)  # so many that all rows are decoded
    with LocalGallery.create(tmp_path / "index", SPEC, dtype=dtype) as gallery:
        for number in range(30):
            new = rows(1 + number % 3, start=5 * number)
            values = vectors(len(new), seed=number)
            gallery.add(new, values)
            stored |= {
                path_of(row): value.astype(dtype).astype(np.float32) for row, value in zip(new, values, strict=True)
            }
            if number % 7 == 3:
                gallery.forget([stored.popitem()[0]])
            if number % 11 == 10:
                gallery.compact()
            named = [dataclasses.replace(new[0], path=path) for path in stored]
            for query, hits in zip(queries, gallery.search(queries, 5).hits, strict=True):
                assert answered(hits) == slow_search(stored.values(), named, query, 5)


def test_a_gallery_that_was_searched_while_it_was_empty(tmp_path):
    with LocalGallery.create(tmp_path / "index", SPEC) as gallery:
        for count in (0, 0, 3, 9):
            gallery.add(rows(count), vectors(count))
            for _ in range(3):
                assert len(gallery.search(vectors(9), 20).hits[0]) == count


def test_only_new_rows_are_decoded(tmp_path, monkeypatch):
    copied = []

    class Counting(view.DecodedRows):
        def of(self, stored):
            copied.append(len(stored) - self._count)
            return super().of(stored)

    monkeypatch.setattr(view, "DecodedRows", Counting)
    queries = vectors(9, seed=7)
    with LocalGallery.create(tmp_path / "index", SPEC) as gallery:
        gallery.add(rows(40), vectors(40))
        gallery.search(queries, 5)
        for number in (40, 41):
            gallery.add(rows(1, start=number), vectors(1, seed=number))
            gallery.search(queries, 5)
    assert copied == [40, 1, 1]


def test_columns_of_earlier_rows_are_read_again_only_if_they_changed(tmp_path, monkeypatch):
    read = []

    def counting(connection, first_slot=0):
        read.append(first_slot)
        return schema.read_columns(connection, first_slot)

    monkeypatch.setattr(snapshot, "read_columns", counting)
    monkeypatch.setattr(snapshot, "read_table", lambda *_arguments: None)  # as if the column file were damaged
    only = SearchFilter(cameras=frozenset({"dock"}))
    with LocalGallery.create(tmp_path / "index", SPEC) as gallery, LocalGallery(tmp_path / "index") as reader:
        gallery.add(rows(40), vectors(40))
        assert reader.search(vectors(1), 50, only).rows == 0
        gallery.add([dataclasses.replace(row, camera="dock") for row in rows(2, start=40)], vectors(2, seed=1))
        assert reader.search(vectors(1), 50, only).rows == 2
        gallery.remember({"pattern": "none"})
        assert reader.search(vectors(1), 50, only).rows == 2
        assert read == [0, 40, 42]
        del read[:]
        changed = gallery.rows()[:3]
        gallery.update([dataclasses.replace(row, camera="dock") for row in changed])
        gallery.remove([path_of(row) for row in rows(1, start=41)])
        assert reader.search(vectors(1), 50, only).rows == 4
        assert read == [42, 0]
        assert {path_of(hit.row) for hit in reader.search(vectors(1), 50, only).hits[0]} == {
            path_of(row) for row in (*changed, *rows(1, start=40))
        }


def test_every_float16_value_is_decoded_as_numpy_does():
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for shape in ((64, 1024), (1, 1 << 16), (1 << 14, 4)):
        stored = values.reshape(shape)
        found, expected = decode(stored), stored.astype(np.float32)
        assert np.array_equal(found, expected, equal_nan=True)
        assert np.array_equal(np.signbit(found), np.signbit(expected))
    finite = np.sort(values[np.isfinite(values)]).reshape(-1, 62)  # pieces without a value that is not finite
    assert np.array_equal(decode(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))
    many = np.tile(finite, (20, 1))  # enough for several threads
    assert np.array_equal(decode(many), many.astype(np.float32))
    assert decode(np.empty((0, 5), np.float16)).shape == (0, 5)
