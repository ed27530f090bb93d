"""``/api/v1/feedback``: verdicts on pairs of a crop or a kept query, and a crop."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from rrid_edge.json_text import text_of_name
from rrid_edge.people.changing import Changed
from rrid_edge.people.records import Node, pair_of
from rrid_edge.serve.addresses import API
from rrid_edge.serve.answers import PersonName
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropNumber
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.peopling import Edit

router = APIRouter(prefix=API, tags=["people"])

_LONGEST: Final = 255
_MOST_VERDICTS: Final = 1_000
VerdictName = Literal["same", "different", "unsure"]


class Side(BaseModel):
    """A crop of the gallery, or a kept query."""

    model_config = ConfigDict(extra="forbid")

    crop: CropNumber | None = None
    query: Annotated[str, Field(max_length=_LONGEST, pattern="^q_")] | None = None

    def node(self) -> Node:
        """The side of a verdict.

        Raises:
            RequestError: 422, both or neither are given.
        """
        given = [side for side in (self.crop, self.query) if side is not None]
        if len(given) != 1:
            raise RequestError("query: expected a crop, or the id of a query", status=422, parameter="query")
        return given[0]


class Judgement(BaseModel):
    """Whether a query and a crop show one person."""

    model_config = ConfigDict(extra="forbid")

    query: Side
    crop: CropNumber
    verdict: VerdictName


class Judged(Judgement):
    """A verdict that was recorded, and what it did."""

    person: PersonName | None
    changed: list[int]


class OtherSide(BaseModel):
    """A verdict, by the other side."""

    crop: int | None
    query: str | None
    verdict: VerdictName


class Verdicts(BaseModel):
    """What was said of a crop or a query."""

    verdicts: list[OtherSide]


@router.post("/feedback", status_code=201)
async def judge(
    service: ServiceOf, gallery: AskedGallery, actor: Annotated[Actor, Depends(need("label"))], body: Judgement
) -> Judged:
    """Say whether a pair shows one person. A later verdict on it replaces this one and undoes what it did.

    ``same`` gives the person of one side to the other, ``different`` keeps both apart in suggestions, ``unsure`` takes
    the pair out of the questions. Two people are merged, not judged.
    """
    pair = pair_of(body.query.node(), body.crop)
    edit = Edit(service, gallery, actor, "feedback", body.verdict)
    done = await service.threads.run(edit.run, lambda editor: editor.judge(pair, body.verdict))
    return Judged(**body.model_dump(), person=_name(done), changed=list(done.crops))


def _name(done: Changed) -> PersonName | None:
    person = done.person
    return None if person is None else PersonName(id=f"p{person.number}", name=text_of_name(person.name))


@router.get("/feedback")
async def feedback(
    service: ServiceOf,
    gallery: AskedGallery,
    _actor: Annotated[Actor, Depends(need("read"))],
    crop: Annotated[int | None, Query(ge=0, lt=2**63, description="Id of a crop.")] = None,
    query: Annotated[str | None, Query(max_length=_LONGEST, description="Id of a kept query.")] = None,
) -> Verdicts:
    """List the verdicts of a crop or of a kept query."""
    node = Side.model_construct(crop=crop, query=query).node()
    return await service.threads.run(_verdicts, gallery, node)


def _verdicts(gallery: ServedGallery, node: Node) -> Verdicts:
    found = list(gallery.book.verdicts_of(node).items())[:_MOST_VERDICTS]
    return Verdicts(
        verdicts=[
            OtherSide(
                crop=other if isinstance(other, int) else None,
                query=other if isinstance(other, str) else None,
                verdict=answer,
            )
            for other, answer in found
        ]
    )
