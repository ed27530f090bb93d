"""``/api/v1/galleries``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from rrid_edge.serve.addresses import API
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
    info = served.store.info()
    return GalleryFacts(
        name=served.name,
        rows=info.rows,
        people=0,
        cameras=[Camera(name=name, crops=count) for name, count in served.store.cameras().items()],
        sources=served.store.sources(),
        first=None,
        last=None,
        fingerprint=served.spec.fingerprint,
        model=served.model.name,
        writable=not served.read_only,
        following=following,
    )
