"""People as the answers of routes show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.json_text import text_of_name
from rrid_edge.people.records import PersonRef
from rrid_edge.people.roster import Roster, Sighting
from rrid_edge.people.suggesting import Resemblance, SuggestedGroup
from rrid_edge.serve.addresses import Addresses
from rrid_edge.serve.answers import Crop, PersonName, crops_of, shown_time
from rrid_edge.serve.galleries import ServedGallery

MOST_TIMELINE: Final = 1_000
"""Crops of a timeline, the newest ones. ``GET /crops?person=`` lists all."""


class Resembles(BaseModel):
    """A confirmed person whom a suggested group may show. It is a question: nothing joins by itself."""

    person: PersonName
    score: float
    crop: int
    other: int
    told: bool


class Person(BaseModel):
    """A person: confirmed by a user, or suggested by scores."""

    id: str
    kind: Literal["confirmed", "suggested"]
    name: str | None
    crops: int
    cameras: list[str]
    first: str | None
    last: str | None
    cover: list[Crop]
    confidence: float | None
    resembles: Resembles | None = None


class CameraCrops(BaseModel):
    """Crops of one camera, newest first."""

    camera: str | None
    crops: list[Crop]


class Merge(BaseModel):
    """A merge or a split that can be undone."""

    id: int
    kind: Literal["merge", "split"]
    name: str | None
    crops: int
    time: str


class PersonDetail(Person):
    """A person with her crops by camera, and what can be undone."""

    timeline: list[CameraCrops]
    merges: list[Merge]


class MergedPerson(Person):
    """A person after a merge or a split."""

    merge: int | None


class Threshold(BaseModel):
    """The mean cosine from which crops are suggested as one person, and where it comes from."""

    score: float
    kind: Literal["fpr", "estimated"]
    rate: float | None
    dataset: str | None


class People(BaseModel):
    """Who is in a gallery."""

    people: list[Person]
    suggested: list[Person]
    total: int
    suggested_total: int
    considered: int
    left_out: int
    computing: bool
    threshold: Threshold | None


class AskedPair(BaseModel):
    """Do two crops show one person?"""

    a: Crop
    b: Crop
    score: float


class Questions(BaseModel):
    """Pairs to judge, the most uncertain first."""

    questions: list[AskedPair]
    computing: bool


@dataclass(frozen=True)
class Shown:
    """Shows people of one gallery. It reads the book, so not on the event loop.

    Attributes:
        gallery: of the people.
        roster: of its committed state.
        addresses: of the service.
    """

    gallery: ServedGallery
    roster: Roster
    addresses: Addresses

    def crops(self, rows: Sequence[GalleryRow]) -> list[Crop]:
        """Rows as answers show them."""
        return crops_of(self.gallery, rows, self.addresses)

    def confirmed(self, person: PersonRef) -> Person:
        """A confirmed person of the roster."""
        return Person(
            id=f"p{person.number}", kind="confirmed", name=text_of_name(person.name), confidence=None,
            **self._facts(self.roster.seen[person.number]),
        )  # fmt: skip

    def suggested(self, group: SuggestedGroup) -> Person:
        """A suggested group."""
        return Person(
            id=f"s{group.crops[0]}", kind="suggested", name=None, confidence=group.confidence,
            resembles=self._resembles(group.resembles), **self._facts(self.sighting(group)),
        )  # fmt: skip

    def sighting(self, group: SuggestedGroup) -> Sighting:
        """Where and when a suggested group was seen. Suggestions may be of an older state: named crops are left out."""
        return Sighting.of(row for row in self.gallery.store.rows_by_id(group.crops) if row.label is None)

    def detail(self, person: PersonRef) -> PersonDetail:
        """A confirmed person with her crops, and what can be undone."""
        merges = [
            Merge(
                id=kept.id, kind=kept.kind, name=None if kept.name is None else text_of_name(kept.name),
                crops=len(kept.crops), time=shown_time(kept.time),
            )
            for kept in self.gallery.book.kept_changes(person.number)
        ]  # fmt: skip
        timeline = self._timeline(self.roster.seen[person.number])
        return PersonDetail(**self.confirmed(person).model_dump(), timeline=timeline, merges=merges)

    def suggested_detail(self, group: SuggestedGroup) -> PersonDetail:
        """A suggested group with its crops."""
        timeline = self._timeline(self.sighting(group))
        return PersonDetail(**self.suggested(group).model_dump(), timeline=timeline, merges=[])

    def _facts(self, seen: Sighting) -> dict[str, Any]:
        first, last = (None if time is None else shown_time(time) for time in (seen.first, seen.last))
        cameras = [text_of_name(camera) for camera in seen.cameras]
        return {
            "crops": len(seen.rows), "cameras": cameras, "first": first, "last": last, "cover": self.crops(seen.cover())
        }  # fmt: skip

    def _timeline(self, seen: Sighting) -> list[CameraCrops]:
        return [
            CameraCrops(camera=None if camera is None else text_of_name(camera), crops=self.crops(rows))
            for camera, rows in seen.by_camera(MOST_TIMELINE)
        ]

    def _resembles(self, found: Resemblance | None) -> Resembles | None:
        if found is None or found.label not in {ref.name for ref in self.roster.people.values()}:
            return None  # nobody, or she was forgotten or renamed since
        person = PersonName(id=self.gallery.book.person_ids([found.label])[found.label], name=text_of_name(found.label))
        return Resembles(person=person, score=found.score, crop=found.crop, other=found.other, told=found.is_told)
