"""Pages of rows against a sorted list of all rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.opening import create_store, open_store
from rrid_edge.gallery.paging import ListedMoment, PageRequest, Position, page_of
from support.galleries import SPEC, rows, vectors


def sorted_ids(found, *, oldest_first=False):
    """Newest first by time, then by id; unknown times last."""
    sign = 1 if oldest_first else -1
    return [row.id for row in sorted(found, key=lambda row: (row.time is None, sign * (row.time or 0), sign * row.id))]


def pages(store, request):
    """Ids of each page, and the totals."""
    ids, totals, after = [], [], request.after
    while True:
        with store.moment() as moment:
            page = page_of(moment, dataclasses.replace(request, after=after))
        ids.append([row.id for row in page.rows])
        totals.append(page.total)
        after = page.after
        if after is None:
            return ids, totals


def listed(store, request):
    """Ids of all pages, one after another."""
    return [id_ for page in pages(store, request)[0] for id_ in page]


@pytest.mark.parametrize("oldest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_are_the_sorted_list(store, limit, oldest_first):
    store.add(rows(40), vectors(40))
    store.remove([rows(40)[9].path, rows(40)[20].path])
    store.add(rows(3, start=11), vectors(3, seed=5))  # new content is the same: they keep their ids
    expected = sorted_ids(store.rows(), oldest_first=oldest_first)
    ids, totals = pages(store, PageRequest(limit, oldest_first))
    assert [id_ for page in ids for id_ in page] == expected
    assert all(len(page) == limit for page in ids[:-1])
    assert set(totals) == {38}


def test_filters(store):
    ids = store.add(rows(40), vectors(40))
    with_label = [dataclasses.replace(row, label="Ann") for row in store.rows_by_id(ids[3:9])]
    store.update(with_label)
    all_rows = store.rows()
    for search_filter in (SearchFilter(cameras=frozenset({"1", "3"})), SearchFilter(since=-10, until=5)):
        expected = sorted_ids([row for row in all_rows if search_filter.passes(row)])
        assert listed(store, PageRequest(4, search_filter=search_filter)) == expected
    assert listed(store, PageRequest(4, label="Ann")) == sorted_ids(with_label)
    assert pages(store, PageRequest(4, label="Bea")) == ([[]], [0])
    wanted = frozenset({*ids[5:15], 10**12})
    assert listed(store, PageRequest(4, ids=wanted)) == sorted_ids(store.rows_by_id(ids[5:15]))


def test_equal_times_and_no_times(store):
    store.add([NewRow(f"{n}.jpg", f"{n:064x}", 1, 2, time=(5, 5, None, 4)[n % 4]) for n in range(30)], vectors(30))
    for oldest_first in (False, True):
        found = listed(store, PageRequest(4, oldest_first))
        assert found == sorted_ids(store.rows(), oldest_first=oldest_first)


def test_pages_stay_in_step_while_others_write(store):
    store.add(rows(30), vectors(30))
    before = sorted_ids(store.rows())
    request, found, after = PageRequest(5), [], None
    for step in range(100):
        with store.moment() as moment:
            page = page_of(moment, dataclasses.replace(request, after=after))
        found += [row.id for row in page.rows]
        after = page.after
        if after is None:
            break
        store.add([NewRow(f"new{step}.jpg", f"{step + 500:064x}", 1, 2, time=10**15 + step)], vectors(1, seed=step))
        store.remove([found[0]])
    assert found == before  # each once, although new ones came first and old ones went


def test_after_a_position_that_is_gone(store):
    ids = store.add(rows(10), vectors(10))
    everything = sorted_ids(store.rows())
    row = store.rows_by_id([everything[4]])[0]
    store.remove([row.id])
    assert listed(store, PageRequest(3, after=Position(row.time, row.id))) == everything[5:]
    assert len(ids) == 10


def test_refuses_an_empty_page():
    with pytest.raises(UsageError, match="limit 0: expected at least 1 row per page"):
        PageRequest(0)


def test_ids_and_marks_of_a_folder(tmp_path):
    with create_store(tmp_path, SPEC) as store, open_store(tmp_path) as reader:

        def look():
            with reader.moment() as moment:
                assert isinstance(moment, ListedMoment)
                return moment.mark(), sorted(moment.ids().tolist())

        empty = look()
        ids = store.add(rows(12), vectors(12))
        full = look()
        assert full[1] == sorted(ids)
        assert (empty[0].rows, full[0].rows) == (0, 12)
        assert all(empty[0].next_id <= id_ < full[0].next_id for id_ in ids)
        store.finish()
        store.remember({"pattern": "auto"})
        assert look() == full  # these commits changed no row
        store.update([dataclasses.replace(store.rows()[0], label="Ann")])
        labelled = look()
        assert labelled[0].total != full[0].total
        assert labelled[0].next_id == full[0].next_id
        store.forget([ids[2]])
        assert look()[1] == sorted(set(ids) - {ids[2]})
        store.compact()  # rows get other slots
        assert look()[1] == sorted(set(ids) - {ids[2]})
        store.add(rows(2, start=50), vectors(2))
        assert look()[1] == sorted(row.id for row in store.rows())


def test_many_rows_read_their_page_only(tmp_path):
    count = 3_000
    random = np.random.default_rng(4)
    times = [None if time < 30 else int(time) for time in random.integers(0, 300, count)]
    new = [NewRow(None, camera=str(n % 5), time=time) for n, time in enumerate(times)]
    with create_store(tmp_path, SPEC) as store:
        store.add(new, vectors(count))
        expected = sorted_ids([row for row in store.rows() if row.camera == "2"])
        request = PageRequest(200, search_filter=SearchFilter(cameras=frozenset({"2"})))
        assert listed(store, request) == expected


def test_labels_of_a_folder_are_counted(tmp_path):
    with create_store(tmp_path, SPEC) as store:
        names = ["Ann", None, "Bo", "Ann", "\u00e9t\u00e9", ""]
        store.add([NewRow(None, label=name or None) for name in names], vectors(len(names)))
        with store.moment() as moment:
            assert isinstance(moment, ListedMoment)
            assert moment.labels() == {"Ann": 2, "Bo": 1, "\u00e9t\u00e9": 1}
        store.remove([store.rows()[0].id])
        with store.moment() as moment:
            assert isinstance(moment, ListedMoment)
            assert sum(moment.labels().values()) == sum(row.label is not None for row in store.rows())
