"""What routes do with people: who an id is, changes with their audit line and events, forgetting."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from rrid_edge.errors import printable
from rrid_edge.gallery.indexing.forgetting import ForgetSelection, Forgetting, forget_crops
from rrid_edge.gallery.labelled import labels_of
from rrid_edge.people.changing import Changed, Editor
from rrid_edge.people.links import Links
from rrid_edge.people.records import ConflictError, NotFoundError, PersonRef
from rrid_edge.people.roster import Roster
from rrid_edge.people.suggesting import SuggestedGroup, Suggestions
from rrid_edge.serve.addresses import Addresses
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor
from rrid_edge.serve.people_answers import Shown
from rrid_edge.serve.people_state import Stopped
from rrid_edge.serve.service import Service

SUGGESTION_WAIT_S: Final = 3.0
"""Seconds that a request waits for suggestions of the newest state. Then it gets those of an older one, or none."""
_FEWEST: Final = 2
_ATTEMPTS: Final = 20
_NUMBERS: Final = 2**63
_PERSON: Final = re.compile(r"([ps])([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True)
class Found:
    """Who an id is: a confirmed person or a suggested group.

    Attributes:
        person: confirmed; or None.
        group: suggested; or None.
    """

    person: PersonRef | None = None
    group: SuggestedGroup | None = None

    def crops(self, roster: Roster) -> tuple[int, ...]:
        """Ids of her crops."""
        if self.person is not None:
            return tuple(row.id for row in roster.seen[self.person.number].rows)
        return () if self.group is None else self.group.crops


async def suggestions_of(service: Service, gallery: ServedGallery) -> tuple[Suggestions | None, bool]:
    """The newest suggestions that are there within three seconds, and whether newer ones are still computed.

    Raises:
        GalleryError: the gallery is damaged or was changed all the time.
    """
    for _ in range(_ATTEMPTS):
        future, is_current = await service.threads.run(gallery.people.suggestions)
        waited = asyncio.wrap_future(future)
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may not wait for it
        done, _ = await asyncio.wait({waited}, timeout=SUGGESTION_WAIT_S)
        if not done:
            future.add_done_callback(lambda _done: _publish(service, gallery, [], []))
            return gallery.people.latest, True
        with contextlib.suppress(Stopped):
            return waited.result(), not is_current
    return gallery.people.latest, True


async def find(service: Service, gallery: ServedGallery, name: str) -> tuple[Found, Roster]:
    """Who an id is, and the people of the gallery.

    Args:
        service: that is asked.
        gallery: of the person.
        name: ``p3`` for a confirmed person, ``s12`` for the suggested group that holds crop 12.

    Raises:
        RequestError: 404, there is nobody of this id.
    """
    kind, number = _parts(name)
    roster = await service.threads.run(gallery.people.roster)
    if kind == "p":
        if number not in roster.people:
            raise nobody(name)
        return Found(person=roster.people[number]), roster
    suggestions, _ = await suggestions_of(service, gallery)
    group = None if suggestions is None else suggestions.group_of(number)
    groups = [] if group is None else await service.threads.run(live_groups, gallery, [group])
    if not groups:
        raise nobody(name)
    return Found(group=groups[0]), roster


def live_groups(gallery: ServedGallery, groups: Sequence[SuggestedGroup]) -> list[SuggestedGroup]:
    """Suggested groups, which may be of an older state, without crops that are gone or somebody's now. Blocking."""
    rows = gallery.store.rows_by_id([crop for group in groups for crop in group.crops])
    free = {row.id for row in rows if row.label is None}
    kept = [replace(group, crops=tuple(crop for crop in group.crops if crop in free)) for group in groups]
    return [group for group in kept if len(group.crops) >= _FEWEST]


async def who(service: Service, gallery: ServedGallery, name: str) -> tuple[str | None, frozenset[int] | None]:
    """Whose crops an id means, for lists: the label of a confirmed person, or the crops of a suggested group.

    A confirmed person costs no reading of all rows.

    Raises:
        RequestError: 404, there is nobody of this id.
    """
    kind, number = _parts(name)
    if kind == "p":
        person = await service.threads.run(gallery.book.person, number)
        if person is None:
            raise nobody(name)
        return person.name, None
    found, roster = await find(service, gallery, name)
    return None, frozenset(found.crops(roster))


def number_of(name: str) -> int:
    """The number of a confirmed person.

    Raises:
        RequestError: 404, the id is none of a confirmed person.
    """
    kind, number = _parts(name)
    if kind != "p":
        raise nobody(name)
    return number


def _parts(name: str) -> tuple[str, int]:
    found = _PERSON.fullmatch(name)
    if found is None or int(found[2]) >= _NUMBERS:
        raise nobody(name)
    return found[1], int(found[2])


def nobody(name: str) -> RequestError:
    """The answer to an id of nobody."""
    return RequestError(
        f"person {printable(name)} does not exist: expected the id of one, such as p3, or s12 for a suggested one",
        status=404,
    )


def shown(service: Service, gallery: ServedGallery) -> Shown:
    """Shows people of the committed state."""
    return Shown(gallery, gallery.people.roster(), Addresses(service.settings.root_path))


@dataclass(frozen=True)
class Edit:
    """A change that an actor asks for.

    Attributes:
        service: that is asked.
        gallery: to change.
        actor: who asks.
        action: of the audit line: ``label`` or ``feedback``.
        what: the change, such as ``merge``.
    """

    service: Service
    gallery: ServedGallery
    actor: Actor
    action: str
    what: str

    def run(self, change: Callable[[Editor], Changed]) -> Changed:
        """Make the change, with its audit line before it and its event after it. Blocking.

        Raises:
            RequestError: 403, 404, 409 or 503, in one line.
        """

        def told(crops: Sequence[int]) -> None:
            self.service.audit.line(self.action, self.actor, self.gallery.name, list(crops), what=self.what)

        try:
            with self.gallery.writing() as store:
                done = change(Editor(store, self.gallery.book, told))
        except NotFoundError as error:
            raise RequestError(error.message, status=404, parameter=error.parameters) from error
        except ConflictError as error:
            raise RequestError(error.message, status=409, parameter=error.parameters) from error
        finally:
            self.gallery.people.changed()
        people = [] if done.person is None else [f"p{done.person.number}"]
        _publish(self.service, self.gallery, people, done.crops)
        return done


def _publish(service: Service, gallery: ServedGallery, people: Sequence[str], crops: Sequence[int]) -> None:
    service.events.publish("person-changed", gallery.name, {"people": list(people), "ids": list(crops)})


def forget(service: Service, gallery: ServedGallery, actor: Actor, ids: Sequence[int]) -> Forgetting:
    """Forget crops: rows, descriptors, thumbnails, and all that the book holds of them. Blocking.

    Crops of the same content are forgotten too, and the content is not indexed again. Image files stay.

    Args:
        service: that is asked.
        gallery: to change.
        actor: who asks.
        ids: of the crops.

    Raises:
        RequestError: 403 or 503.
        UsageError: a crop is not in the gallery.
    """
    with gallery.writing() as store, gallery.people.paused():
        service.audit.line("forget", actor, gallery.name, sorted(ids))
        result = forget_crops(store, ForgetSelection(ids=tuple(ids)))
        with store.moment() as moment:
            labels = labels_of(moment)
        gallery.book.forget(result.ids, labels)
    gallery.people.changed()
    service.drop_caches()
    service.followers[gallery.name].forgot(result.ids)
    return result


def links_of(gallery: ServedGallery) -> Links:
    """The verdicts of a gallery that hold."""
    return Links(gallery.book.verdicts())
