"""``/api/v1/people``: who is in a gallery, names, merges, splits, forgetting."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from rrid_edge.people.changing import Changed
from rrid_edge.people.questions import questions
from rrid_edge.people.records import pair_of
from rrid_edge.people.roster import Roster
from rrid_edge.people.suggesting import Suggestions
from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropNumber
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.people_answers import (
    AskedPair,
    MergedPerson,
    People,
    Person,
    PersonDetail,
    Questions,
    Threshold,
)
from rrid_edge.serve.peopling import (
    Edit,
    Found,
    find,
    forget,
    links_of,
    live_groups,
    nobody,
    number_of,
    shown,
    suggestions_of,
)
from rrid_edge.serve.service import Service

router = APIRouter(prefix=API, tags=["people"])

MOST_PEOPLE: Final = 1_000
"""Confirmed people, and suggested groups, of one answer."""
_MOST_CROPS: Final = 20_000
_MOST_QUESTIONS: Final = 100
Read = Annotated[Actor, Depends(need("read"))]
Label = Annotated[Actor, Depends(need("label"))]
Admin = Annotated[Actor, Depends(need("admin"))]
PersonId = Annotated[str, Path(max_length=32, description="p3 for a confirmed person, s12 for a suggested one.")]
Crops = Annotated[list[CropNumber], Field(max_length=_MOST_CROPS)]
_Name = Annotated[str, Field(max_length=1_000, strict=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPerson(_Body):
    """Unlabelled crops that are one person."""

    name: _Name
    crops: Annotated[Crops, Field(min_length=1)]


class NewName(_Body):
    """A name. Naming a suggested person confirms her crops, or those of ``crops`` that she has."""

    name: _Name
    crops: Crops | None = None


class Other(_Body):
    """The person who ends: her crops go to the one in the address."""

    other: Annotated[str, Field(max_length=32)]


class Split(_Body):
    """What leaves a person: a merge that is undone, or crops, for a new name or for nobody."""

    merge: Annotated[int, Field(ge=1, lt=2**63, strict=True)] | None = None
    crops: Annotated[Crops, Field(min_length=1)] | None = None
    name: _Name | None = None


class Forgotten(BaseModel):
    """What was forgotten."""

    forgotten: int
    ids: list[int]
    left: list[str]


@router.get("/people")
async def people(service: ServiceOf, gallery: AskedGallery, _actor: Read) -> People:
    """List confirmed people, who was seen last first, and suggested ones, the largest group first."""
    found, is_computing = await suggestions_of(service, gallery)
    return await service.threads.run(_people, service, gallery, found, is_computing=is_computing)


def _people(service: Service, gallery: ServedGallery, found: Suggestions | None, *, is_computing: bool) -> People:
    show = shown(service, gallery)
    confirmed = show.roster.newest_first()
    groups = live_groups(gallery, () if found is None else found.groups)
    ordered = sorted(groups, key=lambda group: (-len(group.crops), group.crops[0]))
    return People(
        people=[show.confirmed(person) for person in confirmed[:MOST_PEOPLE]],
        suggested=[show.suggested(group) for group in ordered[:MOST_PEOPLE]],
        total=len(confirmed),
        suggested_total=len(groups),
        considered=0 if found is None else found.considered,
        left_out=0 if found is None else found.left_out,
        computing=is_computing,
        threshold=None if found is None else Threshold(**vars(found.threshold)),
    )


@router.post("/people", status_code=201)
async def create_person(service: ServiceOf, gallery: AskedGallery, actor: Label, body: NewPerson) -> Person:
    """Confirm unlabelled crops as a new person. Crops that verdicts join to them come with them."""
    edit = Edit(service, gallery, actor, "label", "create")
    done = await service.threads.run(edit.run, lambda editor: editor.create(body.name, body.crops))
    return await service.threads.run(_confirmed, service, gallery, done)


def _confirmed(service: Service, gallery: ServedGallery, done: Changed) -> Person:
    show = shown(service, gallery)
    number = -1 if done.person is None else done.person.number
    if number not in show.roster.people:  # somebody else has changed her since
        raise nobody(f"p{number}")
    return show.confirmed(show.roster.people[number])


@router.get("/people/questions")
async def people_questions(
    service: ServiceOf,
    gallery: AskedGallery,
    _actor: Read,
    limit: Annotated[int, Query(ge=1, le=_MOST_QUESTIONS, description="Most questions.")] = 20,
) -> Questions:
    """List pairs that may show one person, the most uncertain first. Pairs with a verdict are left out."""
    found, is_computing = await suggestions_of(service, gallery)
    return await service.threads.run(_questions, service, gallery, found, (limit, is_computing))


def _questions(
    service: Service, gallery: ServedGallery, found: Suggestions | None, asked: tuple[int, bool]
) -> Questions:
    limit, is_computing = asked
    show = shown(service, gallery)
    pairs = [] if found is None else questions(found, links_of(gallery), limit)
    ids = [crop for pair in pairs for crop in (pair.first, pair.second)]
    rows = {row.id: row for row in gallery.store.rows_by_id(ids)}
    kept = [pair for pair in pairs if pair.first in rows and pair.second in rows]
    crops = [show.crops([rows[pair.first], rows[pair.second]]) for pair in kept]
    return Questions(
        questions=[
            AskedPair(a=first, b=second, score=pair.score) for (first, second), pair in zip(crops, kept, strict=True)
        ],
        computing=is_computing,
    )


@router.get("/people/{person}")
async def person_detail(service: ServiceOf, gallery: AskedGallery, _actor: Read, person: PersonId) -> PersonDetail:
    """Show a person: her newest 1,000 crops by camera, and the merges and splits that can be undone."""
    found, _ = await find(service, gallery, person)
    return await service.threads.run(_detail, service, gallery, found, person)


def _detail(service: Service, gallery: ServedGallery, found: Found, name: str) -> PersonDetail:
    show = shown(service, gallery)
    if found.group is not None:
        return show.suggested_detail(found.group)
    if found.person is None or found.person.number not in show.roster.people:
        raise nobody(name)
    return show.detail(show.roster.people[found.person.number])


@router.patch("/people/{person}")
async def name_person(
    service: ServiceOf, gallery: AskedGallery, actor: Label, person: PersonId, body: NewName
) -> Person:
    """Name a person. A suggested one is confirmed."""
    found, roster = await find(service, gallery, person)
    if found.group is None:
        if body.crops is not None:
            raise RequestError("crops are for suggested people: leave them out", status=422, parameter="crops")
        number = number_of(person)
        edit = Edit(service, gallery, actor, "label", "rename")
        done = await service.threads.run(edit.run, lambda editor: editor.rename(number, body.name))
    else:
        crops = _chosen(found, roster, body.crops)
        edit = Edit(service, gallery, actor, "label", "create")
        done = await service.threads.run(edit.run, lambda editor: editor.create(body.name, crops))
    return await service.threads.run(_confirmed, service, gallery, done)


def _chosen(found: Found, roster: Roster, crops: list[int] | None) -> list[int]:
    """The crops of a suggested group, or those that the caller saw.

    Raises:
        RequestError: 409, the group has changed since.
    """
    own = list(found.crops(roster))
    strange = [crop for crop in crops or () if crop not in own]
    if strange or crops == []:
        raise RequestError(
            f"crop {strange[0] if strange else 'list'} is not in this group: it has changed; read it again", status=409
        )
    return own if crops is None else crops


@router.post("/people/{person}/merge")
async def merge_people(
    service: ServiceOf, gallery: AskedGallery, actor: Label, person: PersonId, body: Other
) -> MergedPerson:
    """Give all crops of another person to this one. Of a confirmed and a suggested person the confirmed one stays.

    Two suggested people become one by a verdict, which has no merge to undo.
    """
    kept, _ = await find(service, gallery, person)
    ended, roster = await find(service, gallery, body.other)
    if person == body.other or kept == ended:
        raise RequestError("a person cannot be merged with herself: give another one", status=422, parameter="other")
    edit = Edit(service, gallery, actor, "label", "merge")
    if kept.group is not None and ended.group is not None:
        pair = pair_of(kept.group.crops[0], ended.group.crops[0])
        await service.threads.run(edit.run, lambda editor: editor.judge(pair, "same"))
        found, _ = await find(service, gallery, f"s{pair[0]}")
        return MergedPerson(
            **(await service.threads.run(_detail, service, gallery, found, person)).model_dump(), merge=None
        )
    if kept.person is not None and ended.person is not None:
        number, other = kept.person.number, ended.person.number
        done = await service.threads.run(edit.run, lambda editor: editor.merge(number, other))
    else:
        confirmed, crops = kept.person or ended.person, (kept if kept.person is None else ended).crops(roster)
        assert confirmed is not None
        done = await service.threads.run(edit.run, lambda editor: editor.adopt(confirmed.number, crops))
    return await service.threads.run(_merged, service, gallery, done)


def _merged(service: Service, gallery: ServedGallery, done: Changed) -> MergedPerson:
    return MergedPerson(**_confirmed(service, gallery, done).model_dump(), merge=done.change)


@router.post("/people/{person}/split")
async def split_person(
    service: ServiceOf, gallery: AskedGallery, actor: Label, person: PersonId, body: Split
) -> MergedPerson:
    """Undo a merge or a split of a person, or take crops from her, for a new name or for nobody.

    The answer is the new person, or the one that was split.
    """
    if (body.merge is None) == (body.crops is None) or (body.merge is not None and body.name is not None):
        raise RequestError("expected merge, or crops with or without a name", status=422, parameter="merge")
    number = number_of(person)
    edit = Edit(service, gallery, actor, "label", "split" if body.merge is None else "undo")
    if body.merge is not None:
        change = body.merge
        done = await service.threads.run(edit.run, lambda editor: editor.undo(number, change))
    else:
        crops, name = body.crops or [], body.name
        done = await service.threads.run(edit.run, lambda editor: editor.split(number, crops, name))
    return await service.threads.run(_split, service, gallery, (number, done))


def _split(service: Service, gallery: ServedGallery, parts: tuple[int, Changed]) -> MergedPerson:
    number, done = parts
    show = shown(service, gallery)
    for one in (done.person.number if done.person is not None else number, number):
        if one in show.roster.people:
            return MergedPerson(**show.confirmed(show.roster.people[one]).model_dump(), merge=done.change)
    return MergedPerson(  # all of her crops are nobody's now
        id=f"p{number}", kind="confirmed", name=None, crops=0, cameras=[], first=None, last=None, cover=[],
        confidence=None, merge=done.change,
    )  # fmt: skip


@router.delete("/people/{person}")
async def forget_person(service: ServiceOf, gallery: AskedGallery, actor: Admin, person: PersonId) -> Forgotten:
    """Forget a person: her crops, their descriptors and pictures in the gallery, and all that was said of her.

    Image files stay in their folder; their content is not indexed again.
    """
    found, roster = await find(service, gallery, person)
    result = await service.threads.run(forget, service, gallery, actor, found.crops(roster))
    return Forgotten(forgotten=len(result.ids), ids=list(result.ids), left=list(result.left))
