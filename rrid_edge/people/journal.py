"""Writing a change into the book, then into the gallery, then finishing it; and settling what a kill interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.labelled import labels_of, rows_labelled
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.book_file import mark_of
from rrid_edge.people.links import Links, told
from rrid_edge.people.records import Change, ConflictError, Node, NotFoundError, PersonRef, Verdict


class Journal:
    """The rows, verdicts and changes of one gallery.

    It begins by settling what a killed process left, and erases what the book says of crops that are gone.

    Args:
        store: open for writing.
        book: of the gallery.

    Attributes:
        verdicts: all, also those that changes set aside.
    """

    def __init__(self, store: GalleryStore, book: PeopleBook) -> None:
        self._store, self._book = store, book
        settle(store, book)
        with store.moment() as moment:
            stale = book.stale(moment)
        if stale:
            book.forget(stale, self.names())
        self.verdicts: list[Verdict] = book.verdicts()

    def names(self) -> set[str]:
        """All labels of the gallery."""
        with self._store.moment() as moment:
            return labels_of(moment)

    def crops(self, ids: Iterable[int]) -> dict[int, GalleryRow]:
        """The rows of some crops, by id, as far as they exist."""
        return {row.id: row for row in self._store.rows_by_id(list(dict.fromkeys(ids)))}

    def labelled(self, label: str) -> list[GalleryRow]:
        """The rows of a label, by id."""
        with self._store.moment() as moment:
            return sorted(rows_labelled(moment, label), key=lambda row: row.id)

    def apply(self, change: Change, rows: Sequence[GalleryRow], marks: dict[int, int] | None = None) -> int:
        """Write a change into the book and the gallery, and finish it; returns its id.

        Args:
            change: of the labels of ``rows``.
            rows: at least one.
            marks: of further crops that it names.
        """
        label = None if change.after is None else change.after.name
        changed = [replace(row, label=label) for row in rows]
        identifier = self._book.begin(change, {row.id: mark_of(row) for row in rows} | (marks or {}))
        try:
            self._store.update(changed)
        except Exception:
            with contextlib.suppress(RridEdgeError):  # what cannot be settled now is settled by the next change
                settle(self._store, self._book)
            raise
        self._book.finish(identifier)
        self.verdicts = self._book.verdicts()
        return identifier

    def named(self, pair: Iterable[Node] = ()) -> dict[int, GalleryRow]:
        """The rows of the crops that verdicts and a pair name, as far as they exist."""
        nodes = {node for verdict in self.verdicts for node in verdict.pair} | set(pair)
        return self.crops(node for node in nodes if isinstance(node, int))

    def labels_after(self, rows: Sequence[GalleryRow], after: PersonRef | None) -> dict[int, str | None]:
        """Labels of the crops that verdicts name, once some rows belong to another person, or to nobody."""
        labels = {crop: row.label for crop, row in self.named().items()}
        return labels | {row.id: None if after is None else after.name for row in rows}

    def person(self, number: int) -> tuple[PersonRef, list[GalleryRow]]:
        """A person and her crops.

        Raises:
            NotFoundError: no such person.
        """
        person = self._book.person(number)
        rows = [] if person is None else self.labelled(person.name)
        if person is None or not rows:
            raise NotFoundError(f"person p{number} does not exist")
        return person, rows

    def unlabelled(self, crops: Sequence[int]) -> list[GalleryRow]:
        """Crops that are nobody's, and those that verdicts join to them.

        Raises:
            UsageError: no crop is named.
            NotFoundError: a crop does not exist.
            ConflictError: a crop is somebody already.
        """
        if not crops:
            raise UsageError("no crop is named: expected ids of crops", parameter="crops")
        rows = self.crops(Links(self.verdicts).crops_with(crops))
        for crop in crops:
            if (row := rows.get(crop)) is None:
                raise NotFoundError(f"crop {crop} does not exist")
            if row.label is not None:
                raise ConflictError(f"crop {crop} is {printable(row.label)} already: merge or split her crops")
        return sorted((row for row in rows.values() if row.label is None), key=lambda row: row.id)

    def refuse_unknown(self, nodes: Iterable[Node]) -> None:
        """Refuse crops and queries that do not exist.

        Raises:
            NotFoundError: names the first one.
        """
        for node in nodes:
            if isinstance(node, int):
                is_known = bool(self.crops([node]))
            else:
                is_known = self._book.kept_query(node) is not None or bool(self._book.verdicts_of(node))
            if not is_known:
                raise NotFoundError(f"{told(node)} does not exist{'' if isinstance(node, int) else ' any more'}")


def settle(store: GalleryStore, book: PeopleBook) -> None:
    """Finish or drop the changes that a killed process began: those whose labels it wrote, or did not.

    A server may have written some of the labels of a change; the rest is written then.

    Args:
        store: open for writing.
        book: of the gallery.
    """
    for change in book.pending():
        before, after = (None if ref is None else ref.name for ref in (change.before, change.after))
        rows = store.rows_by_id(change.crops)
        if not any(row.label == after for row in rows):
            book.drop(change.id)
            continue
        missing = [replace(row, label=after) for row in rows if row.label == before]
        if missing:
            store.update(missing)
        book.finish(change.id)
