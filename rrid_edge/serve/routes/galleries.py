"""``/api/v1/galleries``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from rrid_edge.crops.naming import natural_order
from rrid_edge.errors import printable
from rrid_edge.json_text import text_of_name
from rrid_edge.serve.addresses import API
from rrid_edge.serve.answers import shown_time
from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.roles import Actor, need

router = APIRouter(prefix=API, tags=["galleries"])


class Camera(BaseModel):
    """A camera of a gallery."""

    name: str | None
    crops: int


class GalleryFacts(BaseModel):
    """What a gallery holds."""

    name: str
    rows: int
    people: int
    cameras: list[Camera]
    sources: dict[str, int]
    first: str | None
    last: str | None
    fingerprint: str
    model: str
    writable: bool
    following: bool


@router.get("/galleries")
async def galleries(service: ServiceOf, _actor: Annotated[Actor, Depends(need("read"))]) -> list[GalleryFacts]:
    """List the galleries."""
    return await service.threads.run(
        lambda: [_facts(served, following=service.settings.watch) for served in service.galleries.values()]
    )


def _facts(served: ServedGallery, *, following: bool) -> GalleryFacts:
    found = served.facts.of(served.store)
    first, last = found.times or (None, None)
    cameras = sorted(found.cameras.items(), key=lambda one: natural_order(one[0]))
    return GalleryFacts(
        name=served.name,
        rows=found.rows,
        people=found.people,
        cameras=[Camera(name=name, crops=count) for name, count in cameras],
        sources={text_of_name(name): count for name, count in found.sources.items()},
        first=None if first is None else shown_time(first),
        last=None if last is None else shown_time(last),
        fingerprint=served.spec.fingerprint,
        model=printable(served.model.name),
        writable=not served.read_only,
        following=following,
    )
