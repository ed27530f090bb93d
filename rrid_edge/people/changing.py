"""Changing who is who: names, merges, splits, undoing them, verdicts. Labels of the gallery are the truth.

Each change is written into the book first, then into the gallery, then finished in the book. A kill in between leaves a
change that is pending: :func:`rrid_edge.people.journal.settle` finishes it if a label was written, and drops it if none
was. The caller holds the gallery's only writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.book_file import mark_of
from rrid_edge.people.journal import Journal
from rrid_edge.people.links import Links, contradicted, plan_verdict
from rrid_edge.people.naming import accepted_name, like
from rrid_edge.people.records import (
    Answer,
    Change,
    ConflictError,
    Facts,
    KeptChange,
    Node,
    NotFoundError,
    PersonRef,
    Verdict,
)


@dataclass(frozen=True)
class Changed:
    """What a change did.

    Attributes:
        person: the person that it was about; None if nobody has the crops now.
        crops: ids of crops whose label changed.
        change: id of the change, if it can be undone; or None.
    """

    person: PersonRef | None
    crops: tuple[int, ...]
    change: int | None = None


class Editor:
    """Changes people in one gallery. It begins by settling what a killed process left.

    Args:
        store: open for writing.
        book: of the gallery.
        told: receives the crops of a change before it is made, for an audit line; an exception prevents the change.
    """

    def __init__(
        self, store: GalleryStore, book: PeopleBook, told: Callable[[Sequence[int]], None] | None = None
    ) -> None:
        self._book, self._told = book, told or _silent
        self._journal = Journal(store, book)

    def create(self, name: str, crops: Sequence[int]) -> Changed:
        """Confirm unlabelled crops, and those that verdicts join to them, as a new person.

        Raises:
            UsageError: the name is refused, or no crop is named.
            NotFoundError: a crop does not exist.
            ConflictError: a crop is somebody already, or the name is taken or looks like another one.
        """
        wanted = self._free_name(name)
        rows = self._journal.unlabelled(crops)
        person = self._book.new_person(wanted)
        self._change("create", rows, None, person)
        return Changed(person, _ids(rows))

    def rename(self, number: int, name: str) -> Changed:
        """Give a person another name.

        Raises:
            UsageError: the name is refused.
            NotFoundError: no such person.
            ConflictError: the name is taken or looks like another one.
        """
        person, rows = self._journal.person(number)
        wanted = self._free_name(name, person)
        if wanted == person.name:
            return Changed(person, ())
        renamed = replace(person, name=wanted)
        self._change("rename", rows, person, renamed)
        return Changed(renamed, _ids(rows))

    def merge(self, number: int, other: int) -> Changed:
        """Give all crops of another person to a person. Verdicts that told them apart are set aside.

        Raises:
            UsageError: both are one.
            NotFoundError: no such person.
        """
        if number == other:
            raise UsageError(f"person p{number} with herself: expected two people", parameter="other")
        person, _ = self._journal.person(number)
        ended, rows = self._journal.person(other)
        change = self._change("merge", rows, ended, person, retired=True)
        return Changed(person, _ids(rows), change)

    def adopt(self, number: int, crops: Sequence[int]) -> Changed:
        """Confirm unlabelled crops, and those that verdicts join to them, as a person; it can be undone as a merge.

        Raises:
            NotFoundError: no such person or crop.
            ConflictError: a crop is somebody already.
        """
        person, _ = self._journal.person(number)
        rows = self._journal.unlabelled(crops)
        change = self._change("merge", rows, None, person)
        return Changed(person, _ids(rows), change)

    def split(self, number: int, crops: Sequence[int], name: str | None) -> Changed:
        """Take crops from a person, for a new person or for nobody. Verdicts that joined them are set aside.

        Raises:
            UsageError: no crop is named, or all are given to a new name.
            NotFoundError: no such person, or a crop is not hers.
            ConflictError: the name is taken or looks like another one.
        """
        person, own = self._journal.person(number)
        hers = {row.id: row for row in own}
        wanted = list(dict.fromkeys(crops))
        strange = [crop for crop in wanted if crop not in hers]
        if strange:
            raise NotFoundError(f"crop {strange[0]} is not one of {printable(person.name)}: expected her crops")
        if not wanted:
            raise UsageError("no crop is named: expected ids of her crops", parameter="crops")
        is_all = len(wanted) == len(hers)
        if is_all and name is not None:
            raise UsageError("these are all of her crops: rename her", parameter="crops")
        given = None if name is None else self._book.new_person(self._free_name(name))
        rows = [hers[crop] for crop in wanted]
        change = self._change("split", rows, person, given, retired=is_all)
        return Changed(given, _ids(rows), change)

    def undo(self, number: int, change: int) -> Changed:
        """Undo a merge into a person, or a split from her, for the crops that nobody has labelled otherwise since.

        Raises:
            NotFoundError: she has no such merge or split.
            ConflictError: all labels have changed since, or the old name belongs to another person now.
        """
        kept = next((one for one in self._book.kept_changes(number) if one.id == change), None)
        if kept is None:
            raise NotFoundError(f"person p{number} has no merge or split {change}: expected one of her own")
        own = self._book.person(number)
        if kept.kind == "merge":
            before, after = own, self._revived(kept.other, kept.retired_name)
        else:
            before = None if kept.other is None else self._book.person(kept.other)
            after = own or self._revived(number, kept.retired_name)
        label = None if before is None else before.name
        is_lost = before is None and not (kept.kind == "split" and kept.other is None)
        rows = [row for row in self._journal.crops(kept.crops).values() if row.label == label]
        if is_lost or not rows:
            raise ConflictError(f"nothing to undo in {change}: the labels of all its crops have changed since")
        is_emptied = before is not None and len(rows) == len(self._journal.labelled(before.name))
        self._undo(kept, rows, (before, after), retired=is_emptied)
        return Changed(self._book.person(number), _ids(rows))

    def _undo(
        self,
        kept: KeptChange,
        rows: Sequence[GalleryRow],
        people: tuple[PersonRef | None, PersonRef | None],
        *,
        retired: bool,
    ) -> None:
        back = [replace(one, void=None) if one.void == kept.id else one for one in self._journal.verdicts]
        labels = self._journal.labels_after(rows, people[1])
        wrong = set(contradicted(back, labels, _ids(rows)))
        links = Links(one for one in back if one.id not in wrong)
        joined = {one.id for one in back if one.void is None and one.answer == "different" and _is_joined(links, one)}
        facts = Facts(retired=retired, void=tuple(sorted(wrong | joined)), undoes=kept.id)
        self._told(_ids(rows))
        self._journal.apply(Change("undo", _ids(rows), *people, facts), rows)

    def judge(self, pair: tuple[Node, Node], answer: Answer) -> Changed:
        """Record whether a pair shows one person. ``same`` gives the label of one side to the other.

        An earlier verdict of the pair is replaced, and the labels that it alone gave are taken away.

        Args:
            pair: see :func:`rrid_edge.people.records.pair_of`.
            answer: the verdict.

        Raises:
            NotFoundError: a crop or the query does not exist.
            ConflictError: the verdict contradicts labels or other verdicts.
        """
        self._journal.refuse_unknown(pair)
        rows = self._journal.named(pair)
        labels = {crop: row.label for crop, row in rows.items()}
        marks = {node: mark_of(rows[node]) for node in pair if isinstance(node, int)}
        people = self._book.people(sorted({label for label in labels.values() if label is not None}))
        given = {
            crop: label
            for crop, number in self._book.given().items()
            if (label := labels.get(crop)) is not None and people[label].number == number
        }
        steps = plan_verdict(self._journal.verdicts, given, labels, pair, answer)
        crops = [node for node in pair if isinstance(node, int)] + [crop for step in steps for crop in step.crops]
        self._told(sorted(set(crops)))
        if not steps:
            self._book.put_verdict(pair, answer, marks)
        for index, step in enumerate(steps):
            is_last = index == len(steps) - 1
            facts = Facts(
                pair=pair if is_last else None, answer=answer if is_last else None, is_given=step.after is not None
            )
            before = None if step.before is None else people[step.before]
            after = None if step.after is None else people[step.after]
            retired = before is not None and len(self._journal.labelled(before.name)) == len(step.crops)
            change = Change("verdict", step.crops, before, after, replace(facts, retired=retired))
            self._journal.apply(change, [rows[crop] for crop in step.crops], marks)
        moved = tuple(crop for step in steps for crop in step.crops)
        return Changed(next((people[step.after] for step in steps if step.after is not None), None), moved)

    # Parts ------------------------------------------------------------------------------------------------------------

    def _free_name(self, name: str, own: PersonRef | None = None) -> str:
        wanted = accepted_name(name)
        labels = self._journal.names() - (set() if own is None else {own.name})
        taken = like(wanted, sorted(labels))
        if taken is not None:
            number = self._book.people([taken])[taken].number
            how = "is the name of" if taken == wanted else f"looks like {printable(taken)}, the name of"
            raise ConflictError(
                f"{printable(wanted)} {how} person p{number}: merge them if they are one, or choose another name",
                parameter="name",
            )
        return wanted

    def _revived(self, number: int | None, name: str | None) -> PersonRef | None:
        """A person who ended, with her old name; None for nobody."""
        if number is None or name is None:
            return None
        if name in self._journal.names():
            now = self._book.people([name])[name].number
            if now != number:
                raise ConflictError(f"{printable(name)} is another person now, p{now}: rename her first")
        return PersonRef(number, name)

    def _change(
        self,
        kind: str,
        rows: Sequence[GalleryRow],
        before: PersonRef | None,
        after: PersonRef | None,
        *,
        retired: bool = False,
    ) -> int:
        void: tuple[int, ...] = ()
        if kind != "rename":
            void = tuple(contradicted(self._journal.verdicts, self._journal.labels_after(rows, after), _ids(rows)))
        self._told(_ids(rows))
        change = Change(kind, _ids(rows), before, after, Facts(retired=retired, void=void))  # type: ignore[arg-type]
        return self._journal.apply(change, rows)


def _silent(_crops: Sequence[int]) -> None:
    """Tells nobody."""


def _ids(rows: Iterable[GalleryRow]) -> tuple[int, ...]:
    return tuple(row.id for row in rows)


def _is_joined(links: Links, verdict: Verdict) -> bool:
    return verdict.pair[1] in links.component(verdict.pair[0])
