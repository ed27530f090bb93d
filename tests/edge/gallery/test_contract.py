"""One contract, several stores: the folder, Milvus Lite, and (marked ``integration``) a Milvus server over gRPC."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

import rrid_edge.gallery
from rrid_edge.errors import UsageError
from rrid_edge.gallery import GalleryStore, NewRow, SearchFilter
from rrid_edge.gallery.opening import create_store, open_store, parse_location, remove_store, store_exists
from support.galleries import ODD_PATHS, SPEC, answered, path_bytes, path_of, plain, rows, slow_search, vectors


def test_keeps_the_contract(store):
    assert isinstance(store, GalleryStore)
    assert store.info().spec == SPEC
    assert store.info().rows == 0
    assert store.rows() == []
    assert store.search(vectors(2), 5).hits == ((), ())


def test_rows_and_vectors_come_back(store, location):
    store.add(rows(40), vectors(40))
    store.close()
    with open_store(location, spec=SPEC) as gallery:
        found = gallery.rows()
        expected = sorted(rows(40), key=path_bytes)
        assert plain(found) == expected
        order = [rows(40).index(row) for row in expected]
        np.testing.assert_array_equal(gallery.vectors(found), vectors(40)[order].astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(gallery.vectors(found[7:3:-1]), gallery.vectors(found)[7:3:-1])
        assert gallery.vectors([]).shape == (0, SPEC.dimension)
        assert gallery.info().rows == 40
        assert gallery.info().dtype == "float16"


def test_rows_of_some_paths(store):
    store.add(rows(40), vectors(40))
    store.add(rows(1, start=7), vectors(1, seed=3))
    store.remove([rows(40)[9].path])
    wanted = [rows(40)[index].path for index in (30, 7, 9, 8)]
    found = store.rows_of([*wanted, "not there.jpg"], "local")
    assert {row.path for row in found} == {wanted[0], wanted[1], wanted[3]}
    assert sorted(found, key=lambda row: row.path) == [row for row in store.rows() if row.path in wanted]
    assert store.rows_of([], "local") == []
    assert store.rows_of(wanted, "elsewhere") == []


def test_odd_paths_and_persons(store):
    odd = [
        NewRow(path, f"{index:064x}", 1, 2, ("~", "ü", "-1", "007")[index % 4], (None, "~", "%", "x'\"y")[index % 4])
        for index, path in enumerate(ODD_PATHS)
    ]
    store.add(odd, vectors(len(odd)))
    assert plain(store.rows()) == sorted(odd, key=path_bytes)
    for row in odd:
        found = store.search(vectors(1, seed=4), 50, SearchFilter(not_files=frozenset({("local", path_of(row))}))).hits[
            0
        ]
        assert {hit.row.path for hit in found} == set(ODD_PATHS) - {path_of(row)}
    assert store.remove(ODD_PATHS[2:5]) == 3
    assert {row.path for row in store.rows()} == set(ODD_PATHS) - set(ODD_PATHS[2:5])


def test_search_equals_the_slow_one(store):
    store.add(rows(300), vectors(300))
    stored = vectors(300).astype(np.float16)
    queries = vectors(9, seed=5)
    for query, hits in zip(queries, store.search(queries, 12).hits, strict=True):
        assert answered(hits) == slow_search(stored, rows(300), query, 12)
    assert store.search(queries[:1], 1000).hits[0][-1].score < 0
    assert len(store.search(queries[:1], 1000).hits[0]) == 300


def test_ties_are_ordered_by_path(store):
    """More rows tie than any margin covers, so the last hit is one of them."""
    same = np.repeat(vectors(1), 200, axis=0)
    store.add(rows(200)[::-1], same)
    expected = sorted(map(path_of, rows(200)), key=os.fsencode)[:5]
    assert [hit.row.path for hit in store.search(same[:1], 5).hits[0]] == expected


FILTERS = [
    SearchFilter(),
    SearchFilter(cameras=frozenset({"1"})),
    SearchFilter(cameras=frozenset({"1", "3", str(2**70), "lobby", "\udcff"})),
    SearchFilter(cameras=frozenset({"01"})),
    SearchFilter(cameras=frozenset({"\ud800"})),
    SearchFilter(not_cameras=frozenset({"1"})),
    SearchFilter(not_cameras=frozenset({"0", "1", "2", "3"})),
    SearchFilter(since=10, until=20),
    SearchFilter(since=-5),
    SearchFilter(until=-5),
    SearchFilter(since=20, until=10),
    SearchFilter(since=2**65),
    SearchFilter(until=2**65),
    SearchFilter(since_frame=3),
    SearchFilter(until_frame=8, since=0),
    SearchFilter(since_frame=-(2**65), until_frame=2**65),
    SearchFilter(sources=frozenset({"local"})),
    SearchFilter(sources=frozenset({"box 2", "none"})),
    SearchFilter(sources=frozenset({"none"})),
    SearchFilter(not_files=frozenset({("local", "b/00003.jpg"), ("box 2", "a/00004.jpg"), ("local", "none.jpg")})),
    SearchFilter(
        frozenset({"1", "2"}),
        frozenset({"2"}),
        since=-10,
        not_files=frozenset({("local", "b/00005.jpg")}),
        sources=frozenset({"local", "box 2"}),
    ),
]


def test_rows_left_out_by_id(store):
    ids = store.add(mixed(40), vectors(40))  # of files, and of memory
    left_out = frozenset({*ids[8:12], -1, 2**63 - 1, 2**70})
    everything = store.search(vectors(1, seed=9), 50).hits[0]
    found = store.search(vectors(1, seed=9), 50, SearchFilter(not_ids=left_out))
    assert [hit.row.id for hit in found.hits[0]] == [hit.row.id for hit in everything if hit.row.id not in left_out]
    assert found.rows == 36


def mixed(count: int) -> list[NewRow]:
    """Rows of two sources, some with frames, and every tenth without a file."""
    return [
        dataclasses.replace(
            row,
            source="local" if index % 3 else "box 2",
            frame=None if index % 4 == 0 else index % 12,
            path=None if index % 10 == 9 else row.path,
        )
        for index, row in enumerate(rows(count))
    ]


def test_filters(store):
    store.add(mixed(120), vectors(120))
    stored, query = vectors(120).astype(np.float16), vectors(1, seed=9)
    for search_filter in FILTERS:
        passing = [(row, vector) for row, vector in zip(mixed(120), stored, strict=True) if search_filter.passes(row)]
        scores = sorted(
            (float(np.float32(query[0].astype(np.float64) @ vector.astype(np.float64))) for _, vector in passing)
        )
        found = store.search(query, 10, search_filter)
        assert [hit.score for hit in found.hits[0]] == scores[::-1][:10], search_filter
        assert all(search_filter.passes(hit.row) for hit in found.hits[0]), search_filter
        assert found.rows == len(passing), search_filter


def test_three_thousand_files_left_out(store):
    store.add(rows(20), vectors(20))
    left_out = frozenset(("local", path_of(row)) for row in rows(3000, start=5))
    found = store.search(vectors(1), 50, SearchFilter(not_files=left_out))
    assert {hit.row.path for hit in found.hits[0]} == {row.path for row in rows(5)}


def test_a_path_stored_again_replaces_its_row(store):
    store.add(rows(50), vectors(50))
    store.add(rows(50), vectors(50))
    changed = [dataclasses.replace(rows(1)[0], sha256="f" * 64, camera="3", person=None)]
    store.add(changed, vectors(1, seed=3))
    assert store.info().rows == 50
    assert plain(store.rows())[0] == changed[0]
    np.testing.assert_allclose(store.vectors(store.rows()[:1]), vectors(1, seed=3), atol=1e-3)
    assert [hit.row.path for hit in store.search(vectors(1, seed=3), 1).hits[0]] == [changed[0].path]


def test_removed_rows_do_not_answer(store):
    store.add(rows(30), vectors(30))
    assert store.remove(["b/00003.jpg", "b/00005.jpg", "none.jpg"]) == 2
    assert store.remove(["b/00003.jpg"]) == 0
    gone = store.search(vectors(6)[[3, 5]], 30)
    assert gone.rows == 28
    for hits in gone.hits:
        assert len(hits) == 28
        assert not {hit.row.path for hit in hits} & {"b/00003.jpg", "b/00005.jpg"}
    assert store.forget(["a/00004.jpg"]).rows == 1
    store.compact()
    assert store.info().rows == 27
    assert not store.verify().damaged
    assert len(store.search(vectors(1), 100).hits[0]) == 27


def test_new_times_of_the_same_content(store):
    store.add(rows(5), vectors(5))
    before = store.vectors(store.rows())
    touched = [dataclasses.replace(row, size=1, mtime_ns=2) for row in store.rows()[:3]]
    store.update(touched)
    found = store.rows()
    assert [(row.size, row.mtime_ns) for row in found[:3]] == [(1, 2)] * 3
    assert plain(found[3:]) == sorted(rows(5), key=path_of)[3:]
    np.testing.assert_array_equal(store.vectors(found), before)


def test_invalid_shapes_and_values_are_refused(store):
    with pytest.raises(UsageError, match="do not fit 3 rows of 60 values"):
        store.add(rows(3), vectors(2))
    with pytest.raises(UsageError, match=r"queries of shape \(1, 59\)"):
        store.search(vectors(1)[:, :59], 5)
    with pytest.raises(UsageError, match="top 0"):
        store.search(vectors(1), 0)
    with pytest.raises(UsageError, match="dtype 'float8' is unknown"):
        create_store(parse_location("elsewhere"), SPEC, dtype="float8")
    assert store.info().rows == 0


def test_the_model_is_recorded_and_the_gallery_can_be_removed(store, location, tmp_path):
    store.remember({"model": str(tmp_path / "rrid.onnx")})
    store.add(rows(3), vectors(3))
    store.finish()
    assert store.damaged() == []
    store.close()
    store.close()
    with open_store(location) as again:
        assert again.info().model == str(tmp_path / "rrid.onnx")
    assert store_exists(location)
    remove_store(location)
    assert not store_exists(location)
    remove_store(location)  # removing it again is not an error


def test_the_package_offers_its_functions_without_importing_stores():
    code = (
        "import sys, rrid_edge.gallery as room\n"
        "assert not {'sqlite3', 'pymilvus'} & set(sys.modules)\n"
        "assert all(getattr(room, name) for name in room.__all__)\n"
        "assert 'pymilvus' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'opened'"):
        rrid_edge.gallery.opened  # type: ignore[attr-defined]  # noqa: B018
