"""The people file: where it lies, what it keeps for how long, and that forgetting leaves no trace in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rrid_edge.errors import GalleryError
from rrid_edge.gallery import GalleryRow, NewRow
from rrid_edge.gallery.indexing.retention import forget_expired
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import create_store, open_store, parse_location, rebuild_store, remove_store
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.changing import Editor
from rrid_edge.people.records import KeptQuery, pair_of
from support.commands import rrid_edge
from support.galleries import SPEC, vectors


class Killed(BaseException):
    """What a test raises where a process would die."""


def book_at(location):
    return PeopleBook(None) if location is None else PeopleBook.at(location)


def query(book: PeopleBook, seed: int = 9) -> str:
    return book.keep_query(KeptQuery(vectors(1, seed)[0], SPEC.fingerprint, b"jpeg of a query"))


def filled(folder: Path) -> tuple[list[int], list[bytes]]:
    """A gallery whose book has all kinds of entries of Ann and Bob; returns Ann's ids, and what must not be left."""
    with create_store(folder, SPEC) as store, book_at(folder) as book:
        found = vectors(6)
        rows = [NewRow(f"{index}.jpg", f"{index:064x}", thumbnail=b"thumb-%d" % index) for index in range(6)]
        store.add(rows, found)
        Editor(store, book).create("Annabella Q", [1])
        Editor(store, book).create("Bobby Tables", [3])
        shown = query(book, 4)
        Editor(store, book).judge((1, 2), "same")
        Editor(store, book).judge((shown, 2), "same")
        Editor(store, book).judge((1, 3), "different")
        Editor(store, book).create("Once Annabella", [4])
        Editor(store, book).merge(1, 3)
        Editor(store, book).rename(1, "Annabella R")
        book.remember_pushed("key of crop 2", "ab" * 32, 2)
        secrets = [b"Annabella", b"jpeg of a query", vectors(1, 4)[0].astype("<f4").tobytes(), shown.encode()]
        return [1, 2], secrets


def left(folder: Path, secrets: list[bytes]) -> list[str]:
    """Files of a folder that hold one of some contents."""
    return [
        f"{file.name}: {secret[:20]!r}"
        for file in folder.iterdir()
        for secret in secrets
        if secret in file.read_bytes()
    ]


def test_forgetting_leaves_no_trace(tmp_path):
    folder = tmp_path / "g"
    ids, secrets = filled(folder)
    assert left(folder, secrets)
    with open_store(folder, write=True) as store:
        everybody = [row.id for row in store.rows() if row.label in ("Annabella R", "Once Annabella")]
        report = store.forget(everybody)  # also what the command line and the retention call
    assert set(ids) < set(everybody)
    assert report.left == ()
    assert left(folder, secrets) == []
    with book_at(folder) as book:
        assert (book.verdicts(), book.kept_changes(1), set(book.marks()), book.pushed("key of crop 2")) == (
            [],
            [],
            {3},
            None,
        )
        assert book.person_ids(["Cem"]) == {"Cem": "p4"}


def test_the_command_and_the_retention_erase_the_book_too(tmp_path):
    folder = tmp_path / "crops" / ".rrid-edge"
    _, secrets = filled(folder)
    done = rrid_edge("gallery", "forget", tmp_path / "crops", "--person", "Annabella R", "--json")
    assert done.code == 0
    assert left(folder, secrets) == []
    with open_store(folder, write=True) as store:
        store.update([GalleryRow(**{**vars(row), "mtime_ns": 1}) for row in store.rows()])
        store.remember({"retention_s": "60"})
        assert forget_expired(store, store.info()).left == ()
    assert left(folder, [b"Bobby"]) == []


def test_forgetting_in_milvus_erases_the_book_in_the_state_folder(tmp_path, monkeypatch, lite_file):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    address = parse_location(f"milvus+file:{lite_file}/people_of_a_server")
    with create_store(address, SPEC) as store, book_at(address) as book:
        ids = store.add([NewRow(None) for _ in range(3)], vectors(3))
        Editor(store, book).create("Annabella", ids[:2])
        Editor(store, book).judge(pair_of(ids[0], ids[2]), "same")
        assert left(tmp_path / "rrid-edge", [b"Annabella"])
        store.forget([row.id for row in store.rows()])
        assert left(tmp_path / "rrid-edge", [b"Annabella"]) == []
        assert (book.verdicts(), book.marks()) == ([], {})


def test_the_service_forgets_while_its_book_is_open(tmp_path):
    folder = tmp_path / "g"
    _, secrets = filled(folder)
    with book_at(folder) as book, open_store(folder, write=True) as store:
        assert book.person(1)
        store.forget([row.id for row in store.rows() if row.label])
        assert left(folder, secrets) == []
        assert book.person(1) is None


def test_what_a_killed_forgetting_left_is_erased_at_the_next_opening(tmp_path, monkeypatch):
    folder = tmp_path / "g"
    _, secrets = filled(folder)

    def die(*_arguments: object) -> None:
        raise Killed

    store = open_store(folder, write=True)
    with monkeypatch.context() as patch:
        patch.setattr("rrid_edge.gallery.local.store.finish_erasing", die)
        with pytest.raises(Killed):
            store.forget([row.id for row in store.rows()])
    store.close()
    assert left(folder, secrets)
    open_store(folder, write=True).close()
    assert left(folder, secrets) == []


def test_a_rebuild_empties_the_book_and_goes_on_counting_people(tmp_path):
    folder = tmp_path / "g"
    _, secrets = filled(folder)
    with book_at(folder) as book:
        rebuild_store(folder, SPEC).close()
        assert book.verdicts() == []  # the open book sees it too
        assert book.person_ids(["Ann"]) == {"Ann": "p4"}
    assert left(folder, secrets) == []
    remove_store(folder)
    assert not folder.exists()


def test_what_is_said_of_other_crops_of_the_same_ids_is_dropped(tmp_path):
    folder = tmp_path / "g"
    filled(folder)
    with book_at(folder) as book:
        said = book.verdicts()
        (folder / "meta.sqlite").unlink()  # somebody made the index again without this package
        for file in folder.glob("vec.*"):
            file.unlink()
        with create_store(folder, SPEC) as store:
            store.add([NewRow(f"{index}.jpg", f"{index + 90:064x}") for index in range(6)], vectors(6, 3))
            assert said
            assert set(book.stale(store)) == {1, 2, 3, 4}
            Editor(store, book).create("Zoe", [1])
            assert (book.verdicts(), book.kept_changes(1)) == ([], [])


def test_a_reader_of_an_older_state_does_not_bring_a_name_back(tmp_path):
    folder = tmp_path / "g"
    _, secrets = filled(folder)
    with book_at(folder) as book, open_store(folder, write=True) as store:
        book.labels_now = lambda: {row.label for row in store.rows() if row.label is not None}
        before = store.rows()
        store.forget([row.id for row in before])
        assert book.person_ids({row.label for row in before if row.label})  # what a search in flight does
        assert left(folder, [*secrets, b"Bobby"]) == []


def test_the_file_is_private_and_lies_elsewhere_for_a_server_or_a_folder_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "g").mkdir()
    with book_at(tmp_path / "g") as book:
        assert book.path == tmp_path / "g" / "people.sqlite"
        assert {file.stat().st_mode & 0o777 for file in (tmp_path / "g").iterdir()} == {0o600}
    with book_at("milvus+http://host:19530/people") as book:
        assert book.path.parent == tmp_path / "state" / "rrid-edge"
        assert "host" not in book.path.name
    monkeypatch.setattr("os.access", lambda *_arguments: False)
    with book_at(tmp_path / "g") as book:
        assert book.path.parent == tmp_path / "state" / "rrid-edge"


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_file_is_one_line(tmp_path, content):
    (tmp_path / "people.sqlite").write_bytes(content)
    with pytest.raises(GalleryError, match="damaged people file"):
        book_at(tmp_path)


def test_a_file_of_a_newer_release_is_refused(tmp_path):
    book_at(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "people.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(GalleryError, match="made by a newer release"):
        book_at(tmp_path)


def test_queries_and_keys_are_kept_for_a_day_and_at_most_500(monkeypatch):
    book = book_at(None)
    name = query(book)
    found = book.kept_query(name)
    assert (found.descriptor == vectors(1, 9)[0]).all()
    assert (found.fingerprint, found.thumbnail, found.images) == (SPEC.fingerprint, b"jpeg of a query", 1)
    book.remember_pushed("a key", "cd" * 32, 5)
    assert book.pushed("a key") == ("cd" * 32, 5)
    assert book.pushed("another") is None
    monkeypatch.setattr("rrid_edge.people.book.MOST_QUERIES", 3)
    others = [query(book, seed) for seed in range(3)]
    assert [book.kept_query(one) is None for one in (name, *others)] == [True, False, False, False]
    monkeypatch.setattr("rrid_edge.people.book.KEPT_US", -1)
    assert book.kept_query(others[0]) is None
    assert book.pushed("a key") is None


def test_a_kept_query_is_there_for_another_process_and_other_commits_wait_for_the_disk(tmp_path):
    def level(book):
        with book._file.reading() as connection:
            return connection.execute("PRAGMA synchronous").fetchone()[0]

    full = 2  # of SQLite: every commit is on the disk before it returns
    with book_at(tmp_path) as book:
        name = query(book)
        assert level(book) == full
        with book_at(tmp_path) as other:
            assert other.kept_query(name) is not None
        broken = KeptQuery(vectors(1)[0], object(), b"")  # type: ignore[arg-type] # fails as anything inside of the commit
        with pytest.raises(GalleryError):
            book.keep_queries([broken] * 2)
        assert level(book) == full
        assert book.kept_query(query(book)) is not None


def test_old_queries_leave_the_file_with_the_first_query_of_a_later_minute(tmp_path, monkeypatch):
    now = [1_800_000_000_000_000]
    monkeypatch.setattr("rrid_edge.people.book._now", lambda: now[0])
    day, minute = 86_400_000_000, 60_000_000

    def kept(folder) -> int:
        with sqlite3.connect(folder / "people.sqlite") as connection:
            return connection.execute("SELECT count(*) FROM query").fetchone()[0]

    with book_at(tmp_path) as book:
        query(book)
        now[0] += day - minute
        query(book)
        now[0] += minute - 1
        query(book)
        assert kept(tmp_path) == 3
        now[0] += minute + 1
        query(book)
        assert kept(tmp_path) == 3
        now[0] -= 2 * day  # the clock was set back
        query(book)
        assert kept(tmp_path) == 4


def test_many_queries_are_kept_in_one_commit_in_their_order(tmp_path):
    with book_at(tmp_path) as book:
        asked = [KeptQuery(vectors(1, seed)[0], SPEC.fingerprint, b"%d" % seed, seed) for seed in range(1, 4)]
        names = book.keep_queries(asked)
        assert len(set(names)) == 3
        for name, one in zip(names, asked, strict=True):
            found = book.kept_query(name)
            assert (found.thumbnail, found.images) == (one.thumbnail, one.images)
            assert (found.descriptor == one.descriptor).all()


def test_an_older_gallery_of_format_2_needs_no_people_file(tmp_path):
    with LocalGallery.create(tmp_path / "g", SPEC) as store:
        store.add([NewRow(None)], vectors(1))
        assert store.forget([1]).left == ()
    assert not (tmp_path / "g" / "people.sqlite").exists()
