"""The column file: the columns of the catalogue read row by row, whatever was changed, killed or damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sqlite3
from collections import Counter

import numpy as np
import pytest

from rrid_edge.embedding.queries import Query
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.local import (
    catalogue,
    column_commit,
    column_file,
    column_table,
    maintenance,
    moment,
    schema,
    search,
    snapshot,
)
from rrid_edge.gallery.local.column_table import read_table
from rrid_edge.gallery.local.facts import write_facts
from rrid_edge.gallery.local.schema import Columns
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.searching import SearchSettings, search_store
from rrid_edge.gallery.summary import RowSummary
from rrid_edge.matching import MatchSettings, match_all
from support.columns import columns_by_slot, columns_of_catalogue, facts_of, is_followed
from support.commands import refused, rrid_edge
from support.galleries import SPEC, path_of, rows, vectors


@pytest.fixture
def store(folder):
    with LocalGallery.create(folder, SPEC) as gallery:
        gallery.add(rows(40), vectors(40))
        yield gallery


@pytest.fixture
def no_catalogue(monkeypatch):
    """Whoever reads the columns of all rows from the catalogue fails."""

    def read(*_arguments):
        raise AssertionError("the catalogue was read")

    monkeypatch.setattr(snapshot, "read_columns", read)


def column_files(folder):
    return sorted(path.name for path in folder.glob("cache.*"))


def records(folder):
    found = column_file.ColumnFacts.of(facts_of(folder))
    assert found is not None
    return found.records


def columns_read(reader) -> Columns:
    """The columns that a reader has read from the file of the last commit."""
    reader.cameras()
    table = reader._reader._state._table
    assert table is not None
    return table.columns


CHANGES = {
    "add": lambda store: store.add(rows(30, start=40), vectors(30)),
    "replace": lambda store: store.add(rows(10, start=5), vectors(10, seed=2)),
    "same content": lambda store: store.add(rows(10, start=5), vectors(10)),
    "update": lambda store: store.update([dataclasses.replace(row, camera="new", time=7) for row in store.rows()[3:9]]),
    "label": lambda store: store.update([dataclasses.replace(row, label="anna") for row in store.rows()[3:9]]),
    "update twice": lambda store: store.update([dataclasses.replace(store.rows()[0], path=None, camera=name)
                                                for name in "ab"]),
    "remove": lambda store: store.remove([row.id for row in store.rows()[::3]]),
    "remove all": lambda store: store.remove([row.id for row in store.rows()]),
    "forget": lambda store: store.forget([row.id for row in store.rows()[::5]]),
    "compact": lambda store: (store.remove([store.rows()[0].id]), store.compact()),
    "fact": lambda store: store.remember({"pattern": "none"}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_reaches_the_file_and_only_that_part_is_read(store, folder, no_catalogue, change):
    with LocalGallery(folder) as reader:
        reader.cameras()
        for name in (change, "add", change):
            CHANGES[name](store)
            assert reader.cameras() == store.cameras()
            assert sum(reader.cameras().values()) == store.info().rows
            assert columns_by_slot(columns_read(reader)) == columns_of_catalogue(folder)
            assert is_followed(folder)
            assert store.verify().sound
    assert len(column_files(folder)) == 2


def test_a_label_writes_no_record_and_a_commit_only_its_own(store, folder):
    assert records(folder) == 40
    CHANGES["label"](store)
    assert records(folder) == 40
    store.add(rows(3, start=38), vectors(3))  # two of them replace rows
    assert records(folder) == 40 + 2 + 3


def test_filters_by_columns_answer_as_rows_do(store, folder, no_catalogue):
    CHANGES["update"](store)
    CHANGES["remove"](store)
    for wanted in (
        SearchFilter(cameras=frozenset({"new", "1"})),
        SearchFilter(not_cameras=frozenset({"new"})),
        SearchFilter(since=0, until=10),
        SearchFilter(sources=frozenset({"local"})),
        SearchFilter(sources=frozenset({"new"})),
    ):
        with LocalGallery(folder) as reader:
            found = {path_of(hit.row) for hit in reader.search(vectors(1), 100, wanted).hits[0]}
        assert found == {path_of(row) for row in store.rows() if wanted.passes(row)}


def test_a_match_reads_only_the_rows_of_its_answer(store, folder, monkeypatch):
    """Also if nothing passes the filters, and the warning tells what the rows hold."""
    expected = RowSummary.of(store.rows())
    read = []

    def counted(*given):
        read.append(given)
        return schema.entry_of(*given)

    monkeypatch.setattr(catalogue, "entry_of", counted)
    query = Query(("q.jpg",), vectors(1))
    with LocalGallery(folder) as reader:
        (found,) = match_all(reader, [query], MatchSettings(3))
        assert len(found.matches) == len(read) == 3
        settings = MatchSettings(3, rows=SearchFilter(cameras=frozenset({"none"})))
        assert match_all(reader, [query], settings)[0].warnings[0].startswith("no crop passes")
        assert len(search_store(reader, vectors(1), SearchFilter(), SearchSettings(4))[0]) == 4
        assert len(read) == 3 + 4
        with reader.moment() as held:
            assert held.summary() == expected
    assert RowSummary.of([]).rows == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM row WHERE slot % 3",
        "UPDATE row SET camera = x'39' WHERE slot % 3",
        "UPDATE row SET check32 = 1, dead = 1 WHERE slot % 3",
    ],
)
def test_damaged_entries_are_left_out_at_once(store, folder, monkeypatch, statement):
    """The file is sound and knows more rows than the catalogue."""
    store.close()
    connection = sqlite3.connect(folder / "meta.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    searches = []

    def counted(*given):
        searches.append(given)
        return search.find_candidates(*given)

    monkeypatch.setattr(moment, "find_candidates", counted)
    with LocalGallery(folder) as reader:
        (hits,) = reader.search(vectors(1), 5).hits
        assert len(hits) == 5
        assert all(hit.row.slot % 3 == 0 for hit in hits)
        assert len(searches) == 2
        assert len(reader.search(vectors(1), 100).hits[0]) == 14
        assert reader.cameras() == Counter(row.camera for row in reader.rows())


def test_names_that_are_no_utf8_and_many(store, folder, no_catalogue):
    odd = ["\udcff", "ü", "a\nb", "x" * 1000, *map(str, range(300))]
    store.add([NewRow(None, camera=name, source=f"box {name}"[:1000]) for name in odd], vectors(len(odd)))
    assert {name: 1 for name in odd if name not in "0123"}.items() <= store.cameras().items()
    assert is_followed(folder)


def test_what_a_held_moment_sees_does_not_change(store, folder):
    """Also if it reads its columns first after the file was written again, or erased."""
    first, later = (LocalGallery(folder) for _ in range(2))
    with first, later, first.moment() as seen, later.moment() as unseen:
        answer, cameras = seen.search(vectors(3), 40), seen.cameras()
        CHANGES["replace"](store)
        CHANGES["update"](store)
        for name in ("remove", "forget"):
            CHANGES[name](store)
        assert seen.cameras() == unseen.cameras() == cameras
        kept = {row.id for row in store.rows()}
        found = unseen.search(vectors(3), 40)
        for was, now in zip(answer.hits, found.hits, strict=True):
            assert [hit for hit in was if hit.row.id in kept and hit in now] == [
                hit for hit in now if hit.row.id in kept
            ]
        assert is_followed(folder)


def test_the_file_is_written_again_when_it_has_grown(store, folder, monkeypatch):
    monkeypatch.setattr(column_commit, "_FEW_RECORDS", 10)
    for number in range(12):
        store.update([dataclasses.replace(row, time=number) for row in store.rows()[:15]])
        assert is_followed(folder)
        assert records(folder) <= 90
        assert len(column_files(folder)) == 2


def _without_fact(folder):
    """Make the gallery one of an earlier release."""
    connection = sqlite3.connect(folder / "meta.sqlite")
    facts = dict(connection.execute("SELECT key, value FROM info"))
    del facts["columns"]
    connection.execute("DELETE FROM info")
    write_facts(connection, facts)
    connection.commit()
    connection.close()
    for file in folder.glob("cache.*"):
        file.unlink()


def test_a_gallery_of_an_earlier_release_gets_the_file_with_its_next_commit(store, folder):
    store.close()
    _without_fact(folder)
    with LocalGallery(folder) as reader:
        assert sum(reader.cameras().values()) == 40
        assert reader.verify().sound
    with LocalGallery(folder, write=True) as writer:
        assert not column_files(folder)
        writer.add(rows(1, start=40), vectors(1))
        assert is_followed(folder)


def test_indexing_without_a_change_writes_a_missing_file(store, folder):
    store.close()
    _without_fact(folder)
    with LocalGallery(folder, write=True) as writer:
        writer.finish()
    assert is_followed(folder)


def test_a_release_that_does_not_know_the_file_leaves_it_behind(store, folder, monkeypatch):
    """It commits rows and keeps the fact as it is: its checksum no longer fits, so nobody reads the file."""
    monkeypatch.setattr("rrid_edge.gallery.local.facts.follow", lambda *_arguments: None)
    store.add(rows(5, start=40), vectors(5))
    store.remove([store.rows()[0].id])
    with LocalGallery(folder) as reader:
        assert sum(reader.cameras().values()) == 44
        assert reader.verify().sound
    monkeypatch.undo()
    store.add(rows(1, start=60), vectors(1))
    assert is_followed(folder)
    assert len(column_files(folder)) == 2


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


DAMAGES = {
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:9] + b"\xff" + path.read_bytes()[10:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": os.unlink,
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": _pipe,
    "link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize(("damage", "name"), [(damage, name) for damage in DAMAGES for name in ("columns", "names")])
def test_a_damaged_file_is_reported_and_the_next_writer_makes_it_again(store, folder, tmp_path, damage, name):
    expected, query = store.cameras(), vectors(40)
    answers = store.search(query, 5)
    store.close()
    DAMAGES[damage](folder / f"cache.0.0.{name}")
    with LocalGallery(folder) as reader:
        assert (reader.cameras(), reader.search(query, 5)) == (expected, answers)
        assert not reader.verify().columns_sound
    refused(rrid_edge("gallery", "verify", tmp_path, "--gallery", folder), 1, "columns of the search are damaged")
    with LocalGallery(folder, write=True) as writer:
        assert (writer.cameras(), writer.search(query, 5)) == (expected, answers)
        assert writer.verify().sound
        writer.add(rows(3, start=40), vectors(3))
    if damage != "folder":
        assert len(column_files(folder)) == 2
    assert is_followed(folder)


@pytest.mark.parametrize("name", ["columns", "names"])
def test_a_file_damaged_beside_a_writer_is_left_at_its_next_verification(store, folder, name):
    DAMAGES["cut"](folder / f"cache.0.0.{name}")
    store.add(rows(3, start=40), vectors(3))
    assert is_followed(folder)  # too short: the commit wrote another
    (path,) = folder.glob(f"cache.*.{name}")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not store.verify().columns_sound
    assert store.verify().sound
    assert is_followed(folder)


def test_no_flipped_byte_gives_a_wrong_answer(store, folder, tmp_path):
    """Every third byte of both files, after a removal: none of them is read as it is."""
    CHANGES["remove"](store)
    facts, expected = facts_of(folder), columns_of_catalogue(folder)
    for path in (folder / "cache.0.0.columns", folder / "cache.0.0.names"):
        data = path.read_bytes()
        for position in range(0, len(data), 3):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            assert read_table(folder, facts) is None
        path.write_bytes(data)
    assert columns_of_catalogue(folder) == expected
    assert is_followed(folder)


def test_damaged_facts_of_the_file_cost_only_the_file(store, folder):
    store.close()
    good = json.loads(facts_of(folder)["columns"])
    expected = columns_of_catalogue(folder)
    for change in (
        {"number": 1}, {"number": -1}, {"number": "0"}, {"records": 41}, {"records": 39}, {"records": 1 << 31},
        {"crc32": 1}, {"names_bytes": 3}, {"names_bytes": 0}, {"names_crc32": 9}, {"total": "1"}, {"total": 1},
    ):  # fmt: skip
        facts = facts_of(folder) | {"columns": json.dumps(good | change)}
        assert read_table(folder, facts) is None, change
    for text in ("{", "[]", "{}", "\ud800"):
        assert read_table(folder, facts_of(folder) | {"columns": text}) is None
    assert columns_of_catalogue(folder) == expected
    assert is_followed(folder)


def test_a_disk_that_refuses_the_file_costs_only_the_file(store, folder, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(column_file, "append", full)
        patched.setattr(column_file, "create", full)
        store.add(rows(5, start=40), vectors(5))
        store.remove([store.rows()[0].id])
        assert store.forget([store.rows()[0].id]).left == ()
        assert facts_of(folder)["columns"] == ""
        assert sum(store.cameras().values()) == 43
        assert store.verify().sound
    store.remember({"pattern": "none"})
    assert is_followed(folder)


def test_forgotten_rows_leave_nothing_in_the_file(store, folder):
    """Neither a record nor the name of a camera that no other row has. The old file is overwritten."""
    secret = store.add([NewRow("s.jpg", "ab" * 32, camera="secret camera", time=123_456_789)], vectors(1, seed=9))
    os.link(folder / "cache.0.0.columns", folder.parent / "columns")
    os.link(folder / "cache.0.0.names", folder.parent / "names")
    (row,) = store.rows_by_id(secret)
    traces = (b"secret camera", (123_456_789).to_bytes(8, "little"), row.crc32.to_bytes(4, "little"))
    held = [path.read_bytes() for path in folder.glob("cache.*")]
    assert all(any(trace in data for data in held) for trace in traces)
    store.forget(["s.jpg"])
    data = [path.read_bytes() for path in (*folder.glob("cache.*"), folder.parent / "columns", folder.parent / "names")]
    assert not any(trace in part for part in data for trace in traces)
    assert not any(data[-1])
    assert is_followed(folder)


def test_a_copied_gallery_takes_its_file_along(store, folder, tmp_path, no_catalogue):
    store.close()
    shutil.copytree(folder, tmp_path / "copy")
    with LocalGallery(tmp_path / "copy") as copy:
        assert sum(copy.cameras().values()) == 40


def test_files_of_older_states_are_erased_at_opening(store, folder, monkeypatch):
    """A kill right after a commit that wrote the file again leaves the old one."""
    monkeypatch.setattr("rrid_edge.gallery.local.facts.erase_replaced", lambda *_arguments: None)
    monkeypatch.setattr(maintenance, "erase_strays", lambda *_arguments: [])
    monkeypatch.setattr("rrid_edge.gallery.local.writer.erase_strays", lambda *_arguments: [])
    store.forget([store.rows()[0].id])
    assert len(column_files(folder)) == 4
    store.close()
    monkeypatch.undo()
    with LocalGallery(folder) as reader, reader.moment():
        LocalGallery(folder, write=True).close()
    assert column_files(folder) == ["cache.0.1.columns", "cache.0.1.names"]


def test_rows_that_are_added_one_by_one_share_their_memory(store, folder):
    with LocalGallery(folder) as reader:
        bases = set()
        for number in range(40, 50):
            store.add(rows(1, start=number), vectors(1))
            columns = columns_read(reader)
            bases.add(id(columns.slots.base))
            np.testing.assert_array_equal(columns.slots, np.arange(number + 1))
    assert len(bases) == 1


def _record(generator, slot, *, is_gone):
    return [slot, *(generator.randrange(9) for _ in range(4)), 0 if is_gone else 1]


def test_any_records_in_any_order_leave_the_last_of_each_slot():
    """Against a dictionary. Arrays of earlier states stay as they were."""
    generator = random.Random(0)
    for _ in range(300):
        numbers, rows, held = column_table._Growing(np.empty((6, 0), np.int64), 0), 0, []
        expected: dict[int, list[int]] = {}
        for _ in range(4):
            records = []
            for _ in range(generator.randrange(6)):
                is_old = generator.random() < 0.5
                slot = generator.randrange(12) if is_old else max(expected, default=-1) + generator.randint(1, 3)
                records.append(_record(generator, slot, is_gone=is_old and generator.random() < 0.4))
                expected[slot] = records[-1]
            expected = {slot: record for slot, record in expected.items() if record[-1]}
            added = np.array(records, np.int64).reshape(-1, 6).T.copy()
            numbers, rows = column_table._applied(
                numbers, rows, column_table._Growing(added, len(records)), len(records)
            )
            held.append((numbers.first(rows), [expected[slot] for slot in sorted(expected)]))
            assert all(found.T.tolist() == right for found, right in held)
