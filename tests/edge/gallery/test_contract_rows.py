"""One contract, several stores: ids, sources, rows without files, refusals, and facts beside the rows."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from rrid_edge.errors import ClosedError, GalleryChangedError, UsageError
from rrid_edge.gallery import GalleryRow, NewRow
from rrid_edge.gallery.opening import create_store, open_store
from support.galleries import SPEC, path_of, plain, rows, vectors


def sha(number: int) -> str:
    return f"{number:064x}"


def stored_as(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


# --- ids ----------------------------------------------------------------------------------------------------------


def test_add_returns_the_ids_of_its_rows_in_order(store, location):
    given = [*rows(5), NewRow(None, camera="lobby"), NewRow(None, camera="lobby")]
    ids = store.add(given, vectors(7))
    assert len(set(ids)) == 7
    assert all(isinstance(number, int) and 0 <= number < 2**63 for number in ids)
    by_id = {row.id: row for row in store.rows_by_id([*ids, max(ids) + 1, -1, 2**70])}
    assert plain([by_id[number] for number in ids]) == given
    assert store.rows_by_id([]) == []
    store.close()
    with open_store(location) as again:
        assert {row.id for row in again.rows()} == set(ids)


def test_the_same_content_keeps_id_label_and_thumbnail(store):
    (first,) = store.add([dataclasses.replace(rows(1)[0], label="Ann", thumbnail=b"small")], vectors(1))
    (again,) = store.add([dataclasses.replace(rows(1)[0], mtime_ns=5, camera="7")], vectors(1))
    assert again == first
    (row,) = store.rows()
    assert (row.label, row.camera, row.mtime_ns) == ("Ann", "7", 5)
    assert store.thumbnails([first]) == {first: b"small"}
    store.add([dataclasses.replace(rows(1)[0], label="Bea")], vectors(1))
    assert [row.label for row in store.rows()] == ["Bea"]


def test_other_content_gets_another_id_and_no_label(store):
    (first,) = store.add([dataclasses.replace(rows(1)[0], label="Ann", thumbnail=b"small")], vectors(1))
    (second,) = store.add([dataclasses.replace(rows(1)[0], sha256=sha(99))], vectors(1, seed=1))
    assert second != first
    assert [(row.id, row.label) for row in store.rows()] == [(second, None)]
    assert store.rows_by_id([first]) == []
    assert store.thumbnails([first, second]) == {}


# --- sources ------------------------------------------------------------------------------------------------------


def test_sources_do_not_meet(store):
    of_a = [dataclasses.replace(row, source="a") for row in rows(6)]
    of_b = [dataclasses.replace(row, source="b \udcff\"'") for row in rows(9, start=3)]
    store.add(of_a, vectors(6))
    store.add(of_b, vectors(9, seed=1))
    assert store.sources() == {"a": 6, "b \udcff\"'": 9}
    assert store.info().rows == 15
    assert sorted(map(path_of, store.rows(["a"]))) == sorted(map(path_of, of_a))
    assert len(store.rows(["a", "b \udcff\"'", "none"])) == 15
    assert store.rows(["none"]) == store.rows([]) == []
    assert store.file_stats("a") == {row.path: (row.size, row.mtime_ns) for row in of_a}
    assert store.file_stats("none") == {}
    shared = rows(1, start=3)[0].path
    assert [row.source for row in store.rows_of([shared], "a")] == ["a"]
    assert store.remove([shared]) == 2  # by path: of any source
    assert store.sources() == {"a": 5, "b \udcff\"'": 8}
    (row,) = store.rows_of([of_a[0].path], "a")
    assert store.remove([row.id]) == 1
    assert store.sources() == {"a": 4, "b \udcff\"'": 8}


def test_cameras_are_counted(store):
    store.add([NewRow(None, camera=name) for name in ("lobby", "dock-2", "lobby", None)], vectors(4))
    assert store.cameras() == {"lobby": 2, "dock-2": 1, None: 1}


# --- rows without files -------------------------------------------------------------------------------------------


def test_rows_without_files(store):
    given = [NewRow(None, camera="lobby", time=index, track="t", label="Ann", frame=3) for index in range(3)]
    ids = store.add([*given, *given], vectors(6))
    assert len(set(ids)) == 6
    assert {row.origin for row in store.rows()} == {"memory"}
    assert {row.name for row in store.rows()} == {f"#{number}" for number in ids}
    assert [row.id for row in store.rows()] == sorted(ids)
    assert store.file_stats("local") == {}
    for number, vector in zip(ids, vectors(6), strict=True):
        best = store.search(vector[None], 1).hits[0][0]
        assert best.row.id == number
        np.testing.assert_array_equal(store.vectors([best.row])[0], stored_as(vector))
    assert store.remove(ids[:2]) == 2
    assert store.remove(ids[:2]) == 0
    assert store.info().rows == 4


def test_thumbnails(store):
    pictures = [b"\xff\xd8" + bytes([index]) * 3000 * index for index in range(4)]
    given = [dataclasses.replace(row, thumbnail=picture) for row, picture in zip(rows(4), pictures, strict=True)]
    ids = store.add([*given, NewRow(None)], vectors(5))
    assert store.thumbnails([*ids, max(ids) + 5]) == dict(zip(ids, pictures, strict=False))
    assert all(row.thumbnail is None for row in store.rows())
    store.update([dataclasses.replace(row, label="Ann") for row in store.rows()])
    assert store.thumbnails(ids[1:2]) == {ids[1]: pictures[1]}
    (row,) = store.rows_by_id(ids[1:2])
    store.update([dataclasses.replace(row, thumbnail=b"new")])
    assert store.thumbnails(ids[1:2]) == {ids[1]: b"new"}
    store.remove(ids[1:2])
    assert store.thumbnails(ids[1:2]) == {}


# --- changes ------------------------------------------------------------------------------------------------------


def test_update_changes_fields_and_nothing_else(store):
    ids = store.add([*rows(4), NewRow(None)], vectors(5))
    before = {row.id: row for row in store.rows()}
    told = {
        "camera": "dock", "person": "7", "label": "Ann", "track": "t1", "time": -5, "frame": 12, "size": 9,
        "mtime_ns": 8,
    }  # fmt: skip
    store.update([dataclasses.replace(before[number], **told) for number in (ids[0], ids[4])])
    after = {row.id: row for row in store.rows()}
    for number in ids:
        changed = told if number in (ids[0], ids[4]) else {}
        assert plain([after[number]]) == [dataclasses.replace(plain([before[number]])[0], **changed)]
    found = [after[number] for number in ids]
    np.testing.assert_array_equal(store.vectors(found), stored_as(vectors(5)))
    store.update([])


def test_update_leaves_out_rows_that_are_gone_or_have_new_content(store):
    store.add(rows(3), vectors(3))
    old = store.rows()
    store.remove([old[0].id])
    store.add([dataclasses.replace(old_row, sha256=sha(77)) for old_row in plain(old[1:2])], vectors(1, seed=4))
    store.update([dataclasses.replace(row, label="Ann") for row in old])
    assert {row.path: row.label for row in store.rows()} == {old[1].path: None, old[2].path: "Ann"}


def test_vectors_of_rows_that_changed_are_refused(store):
    store.add([*rows(3), NewRow(None)], vectors(4))
    with store.moment() as moment:
        seen = moment.rows()
        np.testing.assert_array_equal(moment.vectors(seen), store.vectors(seen))
        assert moment.info().rows == 4
    memory, changed, removed, kept = seen
    store.add([dataclasses.replace(plain([changed])[0], sha256=sha(5))], vectors(1, seed=9))
    store.remove([removed.id])
    store.forget([memory.id])
    assert store.vectors([kept]).shape == (1, SPEC.dimension)
    for row in (memory, changed, removed):
        with pytest.raises(GalleryChangedError) as refusal:
            store.vectors([kept, row])
        assert "rebuild" not in refusal.value.message


REFUSED = [
    {"camera": 1.5}, {"camera": b"1"}, {"camera": True}, {"person": 7.0}, {"track": ["t"]}, {"label": 1j},
    {"time": 1.0}, {"time": 2**62}, {"time": "now"}, {"frame": float("nan")}, {"frame": 2**70}, {"size": -(2**80)},
    {"sha256": "xyz"}, {"source": ""}, {"source": None}, {"source": "s" * 1001}, {"path": ""}, {"path": 3},
    {"mtime_ns": 1.5}, {"thumbnail": "text"}, {"camera": "c" * 1001},
]  # fmt: skip


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_fields_of_another_type_or_range_are_refused_before_anything_is_written(store, fields):
    with pytest.raises(UsageError) as refusal:
        store.add([rows(1)[0], dataclasses.replace(rows(2)[1], **fields)], vectors(2))
    assert "\n" not in refusal.value.message
    assert store.rows() == []
    (number,) = store.add(rows(1), vectors(1))
    (row,) = store.rows_by_id([number])
    if "thumbnail" not in fields and "path" not in fields and "source" not in fields:
        with pytest.raises(UsageError):
            store.update([dataclasses.replace(row, **fields)])
    assert store.rows() == [row]


def test_whole_numbers_of_numpy_are_accepted(store):
    odd = NewRow("a.jpg", sha(1), np.int32(4), np.int64(5), np.int64(3), np.int8(7), np.int64(9), np.uint8(2))
    store.add([odd], vectors(1))
    (row,) = store.rows()
    assert plain([row]) == [NewRow("a.jpg", sha(1), 4, 5, "3", "7", 9, 2)]
    store.add([dataclasses.replace(odd, mtime_ns=2**70, camera="", person="")], vectors(1))
    (row,) = store.rows()
    assert (row.camera, row.person, row.mtime_ns) == (None, None, 2**63 - 1)


@pytest.mark.parametrize(
    "wrong", [np.full((2, 60), np.nan), vectors(2) * 2, vectors(2)[:1], vectors(2)[:, :59], np.ones((2, 60), int)]
)
def test_descriptors_that_are_none_are_refused(store, wrong):
    with pytest.raises(UsageError):
        store.add(rows(2), wrong)
    with pytest.raises(UsageError, match="twice"):
        store.add([*rows(1), *rows(1)], vectors(2))
    assert store.info().rows == 0
    assert store.add([], vectors(0)) == []


# --- forgetting ---------------------------------------------------------------------------------------------------


def test_forgotten_contents_are_kept_out_until_they_are_let_in(store, location):
    ids = store.add([*rows(6), NewRow(None)], vectors(7))
    assert store.kept_out([sha(0)]) == set()
    assert store.kept_out_state() == ""
    report = store.forget([ids[0], rows(2)[1].path, ids[6], "none.jpg"])
    assert report.rows == 3
    assert store.forget([rows(3)[2].path], keep_out=False).rows == 1
    assert store.forget([]).rows == 0
    store.close()
    with create_store(location, SPEC) as again:
        assert again.kept_out([sha(number) for number in range(6)]) == {sha(0), sha(1)}
        assert {row.path for row in again.rows()} == {row.path for row in rows(3, start=3)}
        assert {hit.row.path for hit in again.search(vectors(1), 9).hits[0]} == {row.path for row in rows(3, start=3)}
        assert sha(0) not in again.kept_out_state()
        assert again.unforget([sha(1), sha(4)]) == 1
        assert again.kept_out([sha(0), sha(1)]) == {sha(0)}
        assert again.unforget() == 1
        assert again.unforget() == 0
        assert again.kept_out([sha(0), sha(1)]) == set()
        assert again.verify().sound


def test_other_rows_of_a_forgotten_content_are_forgotten_too(store):
    given = [NewRow(path, sha(7), source=source) for source in ("a", "b") for path in ("x.jpg", "y.jpg")]
    ids = store.add([*given, NewRow("z.jpg", sha(8)), NewRow("no content.jpg"), NewRow(None)], vectors(7))
    assert store.forget([ids[0], ids[5]]).rows == 5
    assert {row.id for row in store.rows()} == {ids[4], ids[6]}
    (again,) = store.add([NewRow("x.jpg", sha(9), source="a")], vectors(1))
    (twin,) = store.add([NewRow("x.jpg", sha(9), source="b")], vectors(1))
    assert store.forget([again], keep_out=False).rows >= 1
    assert twin in {row.id for row in store.rows()}


def test_a_new_gallery_takes_over_what_was_forgotten(store, location):
    ids = store.add(rows(2), vectors(2))
    store.set_unreadable("a", {"x.jpg": (1, 2)})
    store.forget(ids[:1])
    state = store.kept_out_state()
    store.forget(ids[1:])
    with pytest.raises(UsageError):
        store.restore_kept_out("no state")
    store.unforget()
    store.restore_kept_out(state)
    store.restore_kept_out(state)
    assert store.kept_out([sha(0), sha(1)]) == {sha(0)}
    assert store.unreadable("a") == {"x.jpg": (1, 2)}


# --- facts --------------------------------------------------------------------------------------------------------


def test_facts_are_remembered(store, location):
    assert store.info().retention_s is None
    store.remember({"model": "m.onnx", "pattern": "none", "time_from": "exif", "retention_s": "3600"})
    store.remember({"model": "", "pattern": "folders"})
    store.close()
    with open_store(location) as again:
        info = again.info()
    assert (info.model, info.pattern, info.time_from, info.retention_s) == ("", "folders", "exif", 3600)
    assert info.format == 2


def test_unreadable_files_are_kept_per_source(store):
    assert store.unreadable("a") == {}
    store.set_unreadable("a", {"x.jpg": (1, 2), "\udcff/y.jpg": (2**40, -5)})
    store.set_unreadable("b", {"x.jpg": (3, 4)})
    assert store.unreadable("a") == {"x.jpg": (1, 2), "\udcff/y.jpg": (2**40, -5)}
    store.set_unreadable("a", {"x.jpg": (9, 2), "z.jpg": (1, 1)})
    assert store.unreadable("a") == {"x.jpg": (9, 2), "z.jpg": (1, 1)}
    store.set_unreadable("a", {})
    assert (store.unreadable("a"), store.unreadable("b")) == ({}, {"x.jpg": (3, 4)})


def test_a_closed_store_says_so_in_one_line(store):
    store.add(rows(1), vectors(1))
    (row,) = store.rows()
    store.close()
    store.close()
    uses = [
        store.info, store.rows, store.sources, store.cameras, store.removed, store.damaged, store.finish, store.compact,
        store.verify, store.kept_out_state, store.unforget,
        lambda: store.rows_of([], "local"), lambda: store.rows_by_id([]), lambda: store.search(vectors(1), 1),
        lambda: store.vectors([]), lambda: store.vectors([row]), lambda: store.file_stats("local"),
        lambda: store.add([], vectors(0)), lambda: store.update([row]), lambda: store.remove([row.id]),
        lambda: store.forget([row.id]), lambda: store.kept_out([sha(0)]), lambda: store.remember({"model": "x"}),
        lambda: store.unreadable("a"), lambda: store.set_unreadable("a", {}), lambda: store.thumbnails([row.id]),
        lambda: store.moment().__enter__(),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(ClosedError) as refusal:
            use()
        assert "\n" not in refusal.value.message
    assert isinstance(row, GalleryRow)


def test_threads_share_one_store(store):
    """Eight threads add, read and search at the same time; the result is that of one after the other."""
    errors: list[BaseException] = []
    queries = vectors(8, seed=50)

    def work(thread: int) -> None:
        try:
            for step in range(4):
                given = [dataclasses.replace(row, source=f"s{thread}") for row in rows(3, start=3 * step)]
                ids = store.add(given, vectors(3, seed=10 * thread + step))
                found = store.rows_by_id(ids)
                assert len(store.vectors(found)) == 3
                assert len(store.search(queries[thread : thread + 1], 3).hits[0]) == 3
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.sources() == {f"s{index}": 12 for index in range(8)}
    for number in range(8):
        found = store.rows([f"s{number}"])
        expected = {
            row.path: vectors(3, seed=10 * number + index // 3)[index % 3] for index, row in enumerate(rows(12))
        }
        wanted = np.stack([expected[row.path] for row in found])
        np.testing.assert_array_equal(store.vectors(found), stored_as(wanted))
    assert store.verify().sound
