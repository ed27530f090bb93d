"""The confirmed people of one moment: their crops, cameras and times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.records import PersonRef

COVERS: Final = 4
"""Crops that stand for a person."""


@dataclass(frozen=True)
class Sighting:
    """Where and when a set of crops was seen.

    Attributes:
        rows: the crops, newest first; those of unknown time last.
        cameras: names, sorted; crops of unknown camera have none.
        first: earliest time (UTC microseconds since 1970), or None.
        last: latest time, or None.
    """

    rows: tuple[GalleryRow, ...]
    cameras: tuple[str, ...]
    first: int | None
    last: int | None

    @classmethod
    def of(cls, rows: Iterable[GalleryRow]) -> Sighting:
        """Of some rows."""
        ordered = sorted(rows, key=_newest_first)
        times = [row.time for row in ordered if row.time is not None]
        cameras = sorted({row.camera for row in ordered if row.camera is not None})
        return cls(tuple(ordered), tuple(cameras), min(times, default=None), max(times, default=None))

    def cover(self) -> list[GalleryRow]:
        """At most four crops: the newest of each camera, then the next ones."""
        seen: dict[str | None, int] = defaultdict(int)
        ranked = []
        for place, row in enumerate(self.rows):
            ranked.append((seen[row.camera], place))
            seen[row.camera] += 1
        return [self.rows[place] for _, place in sorted(ranked)[:COVERS]]

    def by_camera(self, most: int) -> list[tuple[str | None, list[GalleryRow]]]:
        """The newest ``most`` crops by camera: the camera that saw her last comes first."""
        found: dict[str | None, list[GalleryRow]] = {}
        for row in self.rows[:most]:
            found.setdefault(row.camera, []).append(row)
        return list(found.items())


def _newest_first(row: GalleryRow) -> tuple[bool, int, int]:
    return row.time is None, -(row.time or 0), -row.id


@dataclass(frozen=True)
class Roster:
    """Who is confirmed.

    Attributes:
        people: by number.
        seen: by number.
        rows: labelled rows of the moment, by id.
    """

    people: Mapping[int, PersonRef]
    seen: Mapping[int, Sighting]
    rows: Mapping[int, GalleryRow] = field(repr=False)

    @classmethod
    def of(cls, rows: Sequence[GalleryRow], book: PeopleBook) -> Roster:
        """The people of some rows. Labels that mean junk or a distractor are nobody's.

        Args:
            rows: all labelled rows of a moment.
            book: gives ids to labels that it has never seen.
        """
        by_label: dict[str, list[GalleryRow]] = defaultdict(list)
        for row in rows:
            if row.label is not None:
                by_label[row.label].append(row)
        labels = sorted(
            (label for label in by_label if label_kind(label) == PERSON),
            key=lambda label: min(row.id for row in by_label[label]),
        )
        people = book.people(labels)
        seen = {people[label].number: Sighting.of(by_label[label]) for label in labels}
        return cls({ref.number: ref for ref in people.values()}, seen, {row.id: row for row in rows})

    def newest_first(self) -> list[PersonRef]:
        """All people: who was seen last comes first, those of unknown time last."""

        def age(ref: PersonRef) -> tuple[bool, int, int]:
            last = self.seen[ref.number].last
            return last is None, -(last or 0), ref.number

        return sorted(self.people.values(), key=age)
