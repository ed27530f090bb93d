"""Chosen rows in order: every store lists as a plain loop over its rows, a damaged catalogue included."""

from __future__ import annotations

import dataclasses
import fnmatch
import sqlite3

import pytest

from rrid_edge.gallery import NewRow, SearchFilter
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.row_list import OrderedMoment, RowList, RowSelection, RowTotals
from support.galleries import ODD_PATHS, SPEC, path_bytes, plain, rows, vectors

MORE = (
    NewRow(None, camera="dock", label="Ann", time=40),
    NewRow(None, camera="dock", person="0002", label="Bob", source="box"),
    *(NewRow(path, "ab" * 32, 1, 2, "9", "0000", 7) for path in ODD_PATHS),
    NewRow("a/00003.jpg", "cd" * 32, 1, 2, "3", "-1", None, 12, source="box"),
)


def filled(store):
    """A store of 60 rows: rows without files, odd names, two sources, junk, distractors and labels among them."""
    known = [*rows(48), *MORE]
    store.add(known, vectors(len(known)))
    return store


def listed(moment, selection=None, block_rows=7):
    return [row for block in RowList(moment, selection, block_rows).blocks() for row in block]


def test_all_rows_come_in_the_order_of_paths(store):
    with filled(store).moment() as moment:
        found = listed(moment)
        assert found == moment.rows()
        assert [path_bytes(row) for row in found if row.path] == sorted(path_bytes(row) for row in found if row.path)
        assert {len(block) for block in RowList(moment, None, 25).blocks()} == {25, 10}
        assert len(found) == 60


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (RowSelection(SearchFilter(cameras=frozenset({"dock", "3"}))), lambda row: row.camera in ("dock", "3")),
        (RowSelection(SearchFilter(since=10, until=20)), lambda row: row.time is not None and 10 <= row.time <= 20),
        (RowSelection(SearchFilter(since_frame=12)), lambda row: row.frame == 12),
        (RowSelection(person="Ann"), lambda row: row.label == "Ann"),
        (RowSelection(person="0002"), lambda row: (row.label or row.person) == "0002"),
        (RowSelection(path="b/*[13].jpg"), lambda row: row.path and fnmatch.fnmatchcase(row.path, "b/*[13].jpg")),
        (RowSelection(path="*\n*"), lambda row: row.path == "new\nline.jpg"),
        (RowSelection(path="*"), lambda row: row.path is not None),
        (RowSelection(sources=frozenset({"box"})), lambda row: row.source == "box"),
        (RowSelection(sources=frozenset()), lambda row: False),
        (RowSelection(person="nobody"), lambda row: False),
    ],
)
def test_a_selection_lists_what_a_loop_over_all_rows_lists(store, selection, wanted):
    with filled(store).moment() as moment:
        expected = [row for row in moment.rows() if wanted(row)]
        assert listed(moment, selection) == expected
        ids = [row.id for row in expected]
        if len(ids) > 1:
            both = dataclasses.replace(selection, ids=frozenset({ids[0], ids[-1], 10**15}))
            assert [row.id for row in listed(moment, both)] == [ids[0], ids[-1]]


def test_totals_count_people_cameras_and_times_once(store):
    with filled(store).moment() as moment:
        totals = RowList(moment, None, 7).survey(RowTotals)
    told = [row for row in rows(48) if row.person not in (None, "0000")]  # 0000 is a distractor, -1 is junk
    people = {row.person for row in told} | {"Ann", "Bob"}
    cameras = {row.camera for row in (*rows(48), *MORE)} - {None}
    assert (totals.rows, totals.people, totals.cameras) == (60, len(people), len(cameras))
    assert (totals.first, totals.last) == (-19, 40)
    assert (totals.first_frame, totals.last_frame) == (12, 12)
    assert (RowTotals().rows, RowTotals().people, RowTotals().first) == (0, 0, None)


def test_a_folder_reads_in_order_and_holds_no_list(tmp_path):
    with filled(LocalGallery.create(tmp_path / "g", SPEC)) as store, store.moment() as moment:
        expected = plain(moment.rows())
        store.add([NewRow("a/new.jpg", "ef" * 32, 1, 2)], vectors(1, 9))  # after the moment began
        assert plain(listed(moment)) == expected
        cameras, whole = moment.cameras, moment.rows
        assert isinstance(moment, OrderedMoment)
        blocks = moment.in_order(4)
        first = next(blocks)
        assert cameras()["dock"] == 2  # other calls come between two blocks
        assert [*first, *(row for block in blocks for row in block)] == whole()


@pytest.mark.parametrize("change", ["dead = 1", "camera = x'30'"])
def test_a_damaged_entry_is_listed_as_the_rows_of_the_gallery_are(tmp_path, change):
    with filled(LocalGallery.create(tmp_path / "g", SPEC)):
        pass
    with sqlite3.connect(tmp_path / "g" / "meta.sqlite") as catalogue:
        catalogue.execute(f"UPDATE row SET {change} WHERE id = 20")
    catalogue.close()
    with LocalGallery(tmp_path / "g") as store, store.moment() as moment:
        expected = moment.rows()
        assert len(expected) == (60 if change.startswith("dead") else 59)
        assert listed(moment) == expected
        assert RowList(moment, None, 7).survey(RowTotals).rows == len(expected)
