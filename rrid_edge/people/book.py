"""The book of a gallery: ids of people, merges, verdicts and kept queries, in a SQLite file beside it.

Labels of the gallery's rows say who is confirmed, and other programs may change them at any time. The book adds ids and
history. A change of labels is written here first (:meth:`PeopleBook.begin`), then into the gallery, then finished here.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

import numpy as np
from typing_extensions import Self

from rrid_edge.closable import Closable
from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.people_file import name_bytes, people_file
from rrid_edge.gallery.people_traces import erase
from rrid_edge.people import book_changes
from rrid_edge.people.book_file import BookFile, mark_of
from rrid_edge.people.records import Answer, Change, KeptChange, KeptQuery, Node, PersonRef, Verdict

__all__ = ["KeptQuery", "PeopleBook"]
MOST_QUERIES: Final = 500
KEPT_US: Final = 86_400_000_000
"""Microseconds that queries and keys of pushed crops are kept: a day."""
_SWEEP_US: Final = 60_000_000
"""Microseconds between two looks for old queries: the look reads all of them."""


class PeopleBook(Closable):
    """What people said about the crops of one gallery. Its methods may be called from any thread.

    Args:
        path: of the file, or None to keep everything in memory.

    Attributes:
        path: as given.
        labels_now: returns the labels that the gallery has now, or is None if nobody knows. With it, a reader that
            still holds rows of a forgotten person does not bring her name back.

    Raises:
        GalleryError: the file is damaged, or a newer release made it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.labels_now: Callable[[], Set[str]] | None = None
        self._file = BookFile(path)
        self._swept = _now()
        self._drop_old()

    @classmethod
    def at(cls, location: object) -> Self:
        """The book of a gallery; see :mod:`rrid_edge.gallery.people_file` for where it lies.

        Args:
            location: folder of the index, or an address.
        """
        return cls(people_file(location))

    # Queries and pushed crops -----------------------------------------------------------------------------------------

    def keep_query(self, query: KeptQuery) -> str:
        """Keep a query for a day; returns its id. See :meth:`keep_queries`."""
        return self.keep_queries([query])[0]

    def keep_queries(self, queries: Sequence[KeptQuery]) -> list[str]:
        """Keep queries for a day; returns their ids, which nobody can guess. At most 500 are kept, the newest.

        They survive a kill of this process, but maybe not a power failure: waiting for the disk takes longer than a
        search.
        """
        names, now, number = [f"q_{secrets.token_urlsafe(16)}" for _ in queries], _now(), 0
        with self._file.writing(durable=False) as connection:
            for name, query in zip(names, queries, strict=True):
                descriptor = np.ascontiguousarray(query.descriptor, "<f4").tobytes()
                record = (name, query.fingerprint, descriptor, query.thumbnail, query.images, now)
                number = connection.execute("INSERT INTO query VALUES (?, ?, ?, ?, ?, ?)", record).lastrowid or 0
            connection.execute("DELETE FROM query WHERE rowid <= ?", (number - MOST_QUERIES,))
            if not 0 <= now - self._swept < _SWEEP_US:  # also after the clock was set back
                connection.execute("DELETE FROM query WHERE time < ?", (now - KEPT_US,))
                self._swept = now
        return names

    def kept_query(self, name: str) -> KeptQuery | None:
        """A query by its id; None if it is unknown or older than a day."""
        wanted = "SELECT descriptor, fingerprint, thumbnail, images FROM query WHERE id = ? AND time >= ?"
        with self._file.reading() as connection:
            found = connection.execute(wanted, (name, _now() - KEPT_US)).fetchone()
        if found is None:
            return None
        return KeptQuery(np.frombuffer(found[0], "<f4").astype(np.float32), *found[1:])

    def pushed(self, key: str) -> tuple[str, int] | None:
        """Digest and crop of what was pushed with an idempotency key in the last day; None if nothing was."""
        wanted = "SELECT digest, crop FROM pushed WHERE key = ? AND time >= ?"
        with self._file.reading() as connection:
            found = connection.execute(wanted, (_key(key), _now() - KEPT_US)).fetchone()
        return None if found is None else (found[0].hex(), found[1])

    def remember_pushed(self, key: str, digest: str, crop: int) -> None:
        """Remember for a day what was pushed with an idempotency key.

        Args:
            key: of the request. A digest of it is stored.
            digest: of the content, in hex.
            crop: id of its row.
        """
        with self._file.writing() as connection:
            connection.execute("DELETE FROM pushed WHERE time < ?", (_now() - KEPT_US,))
            record = (_key(key), bytes.fromhex(digest), crop, _now())
            connection.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?, ?)", record)

    def _drop_old(self) -> None:
        with self._file.writing() as connection:
            for table in ("query", "pushed"):
                connection.execute(f"DELETE FROM {table} WHERE time < ?", (_now() - KEPT_US,))  # noqa: S608

    # People -----------------------------------------------------------------------------------------------------------

    def people(self, labels: Iterable[str]) -> dict[str, PersonRef]:
        """The person of each label. Labels that the book has never seen become new people.

        Args:
            labels: of the gallery; new people are numbered in their order.
        """
        wanted = list(dict.fromkeys(labels))
        with self._file.reading() as connection:
            known = book_changes.known_people(connection)
        missing = [label for label in wanted if label not in known]
        if missing:
            with self._file.writing() as connection:
                known = book_changes.known_people(connection)
                for label in missing:
                    if label not in known:
                        known[label] = book_changes.next_number(connection)
                        connection.execute("INSERT INTO person VALUES (?, ?)", (known[label], name_bytes(label)))
            self._drop_gone(missing)
        return {label: PersonRef(known[label], label) for label in wanted}

    def _drop_gone(self, labels: Sequence[str]) -> None:
        """Erase new people whose crops were forgotten while they were added. Forgetting removes rows first."""
        gone = [] if self.labels_now is None else sorted(set(labels) - self.labels_now())
        if gone:
            with self._file.writing() as connection:
                connection.executemany("DELETE FROM person WHERE name = ?", [(name_bytes(label),) for label in gone])
            self._file.empty_log()

    def person_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Ids of confirmed people, such as ``p3``, by name. A name that is new gets an id, which it keeps."""
        return {name: f"p{ref.number}" for name, ref in self.people(sorted(names)).items()}

    def person(self, number: int) -> PersonRef | None:
        """A person by number, or None. Her crops may be gone."""
        with self._file.reading() as connection:
            found = connection.execute("SELECT name FROM person WHERE number = ?", (number,)).fetchone()
        return None if found is None else PersonRef(number, book_changes.text_of(found[0]))

    def new_person(self, name: str) -> PersonRef:
        """A person with a number of her own, who exists once a change that names her is finished."""
        with self._file.writing() as connection:
            return PersonRef(book_changes.next_number(connection), name)

    # Changes of labels ------------------------------------------------------------------------------------------------

    def begin(self, change: Change, marks: Mapping[int, int]) -> int:
        """Write down a change that is about to be made in the gallery; returns its id.

        Args:
            change: of the labels of at least one crop.
            marks: see :func:`rrid_edge.people.book_file.mark_of`, for every crop that it names.
        """
        with self._file.writing() as connection:
            _mark(connection, marks)
            return book_changes.insert(connection, change, _now())

    def finish(self, change: int) -> None:
        """Make true in the book what a change says, after its labels were written."""
        with self._file.writing() as connection:
            book_changes.finish(connection, change, _now())

    def drop(self, change: int) -> None:
        """Forget a change whose labels were not written."""
        with self._file.writing() as connection:
            book_changes.delete(connection, change)

    def pending(self) -> list[Change]:
        """Changes that were begun and not finished, the oldest first: their process was killed."""
        with self._file.reading() as connection:
            return book_changes.pending(connection)

    def kept_changes(self, person: int) -> list[KeptChange]:
        """Merges and splits of a person that can be undone, the newest first."""
        with self._file.reading() as connection:
            return book_changes.kept(connection, person)

    # Verdicts ---------------------------------------------------------------------------------------------------------

    def verdicts(self) -> list[Verdict]:
        """All verdicts, the oldest first, also those that changes set aside."""
        with self._file.reading() as connection:
            found = connection.execute("SELECT first, second, verdict, id, time, void FROM verdict ORDER BY id")
            return [Verdict((first, second), *told) for first, second, *told in found.fetchall()]

    def verdicts_of(self, node: Node) -> dict[Node, Answer]:
        """What was said of a crop or a query: the answer by the other side."""
        wanted = "SELECT first, second, verdict FROM verdict WHERE (first = ? OR second = ?) AND void IS NULL"
        with self._file.reading() as connection:
            found = connection.execute(wanted, (node, node)).fetchall()
        return {(second if first == node else first): answer for first, second, answer in found}

    def put_verdict(self, pair: tuple[Node, Node], answer: Answer, marks: Mapping[int, int]) -> None:
        """Record a verdict that changes no label; it replaces an earlier one of the pair."""
        with self._file.writing() as connection:
            _mark(connection, marks)
            book_changes.put_verdict(connection, pair, answer, _now())

    def given(self) -> dict[int, int]:
        """The person (number) that verdicts gave to crops, by crop."""
        with self._file.reading() as connection:
            return dict(connection.execute("SELECT crop, person FROM given").fetchall())

    # What leaves the book ---------------------------------------------------------------------------------------------

    def marks(self) -> dict[int, int]:
        """The mark of every crop that the book names."""
        with self._file.reading() as connection:
            return dict(connection.execute("SELECT id, mark FROM crop").fetchall())

    def stale(self, moment: Moment) -> list[int]:
        """Ids of crops that the book names and that are gone, or other crops now."""
        marks = self.marks()
        rows = {row.id: row for row in moment.rows_by_id(list(marks))} if marks else {}
        return [crop for crop, mark in marks.items() if crop not in rows or mark_of(rows[crop]) != mark]

    def forget(self, ids: Sequence[int], labels: Set[str]) -> bool:
        """Erase every trace of crops, and of people without crops.

        Args:
            ids: of the crops.
            labels: that live rows still have.

        Returns:
            Whether the erased bytes have left the file's log too. They leave it later if another process reads it now.
        """
        with self._file.reading() as connection:
            erase(connection, list(ids), labels)
        return self._file.empty_log()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def _mark(connection: sqlite3.Connection, marks: Mapping[int, int]) -> None:
    connection.executemany("INSERT OR REPLACE INTO crop VALUES (?, ?)", marks.items())


def _now() -> int:
    return time.time_ns() // 1000


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
