"""``/api/v1/crops``: list, show, push and forget crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, Field

from rrid_edge.gallery.paging import PageRequest
from rrid_edge.serve.addresses import API
from rrid_edge.serve.answers import Crop, crop_of, crops_of
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropId
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.listing import cursor_of, filter_of, position_of
from rrid_edge.serve.peopling import forget, who
from rrid_edge.serve.pictures import crop_row
from rrid_edge.serve.pushing import IMAGE, Pushed, push
from rrid_edge.serve.service import Service
from rrid_edge.serve.uploads import read_form

router = APIRouter(prefix=API, tags=["crops"])

MOST_CROPS: Final = 200
_USUAL_CROPS: Final = 50
_MOST_PARTS: Final = 8
Read = Annotated[Actor, Depends(need("read"))]


class CropPage(BaseModel):
    """One page of crops."""

    crops: list[Crop]
    next: str | None
    total: int


@dataclass(frozen=True)
class AskedPage:
    """Which crops a request lists."""

    limit: Annotated[int, Query(ge=1, le=MOST_CROPS, description="Most crops of the page.")] = _USUAL_CROPS
    cursor: Annotated[str | None, Query(max_length=64, description="What next of the page before says.")] = None
    camera: Annotated[list[str], Query(description="Only these cameras.")] = ()  # type: ignore[assignment]
    person: Annotated[str | None, Query(max_length=32, description="Only this person, such as p3 or s12.")] = None
    since: Annotated[str | None, Query(max_length=64, description="ISO 8601, a date, or a duration such as 2h.")] = None
    until: Annotated[str | None, Query(max_length=64, description="The same; a date includes its day.")] = None
    order: Annotated[Literal["newest", "oldest"], Query(description="By time; unknown times last.")] = "newest"


@router.get("/crops")
async def crops(
    service: ServiceOf, gallery: AskedGallery, _actor: Read, asked: Annotated[AskedPage, Depends()]
) -> CropPage:
    """List crops by time, a page at a time. Crops that are added or removed meanwhile move no others."""
    label, ids = None, None
    if asked.person is not None:
        label, ids = await who(service, gallery, asked.person)
    request = PageRequest(
        asked.limit,
        asked.order == "oldest",
        position_of(asked.cursor, asked.order),
        filter_of(list(asked.camera), asked.since, asked.until),
        label,
        ids,
    )
    return await service.threads.run(_page, service, gallery, asked, request)


def _page(service: Service, gallery: ServedGallery, asked: AskedPage, request: PageRequest) -> CropPage:
    page = service.listing.page(gallery, request)
    return CropPage(
        crops=crops_of(gallery, page.rows, service.addresses),
        next=None if page.after is None else cursor_of(page.after, asked.order),
        total=page.total,
    )


_FORM: Final = {
    "type": "object",
    "properties": {
        IMAGE: {"type": "string", "format": "binary", "description": "Picture of one person."},
        "camera": {"type": "string", "description": "Name of the camera."},
        "time": {"type": "string", "description": "ISO 8601 with a zone, or UTC microseconds since 1970."},
        "track": {"type": "string", "description": "Name of the track."},
        "person": {"type": "string", "description": "Who it is by what the sender says; confirms nobody."},
    },
    "required": [IMAGE],
    "additionalProperties": False,
}
_BODY: Final[dict[str, Any]] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}


@router.post("/crops", status_code=201, openapi_extra={"requestBody": _BODY})
async def push_crop(
    request: Request,
    response: Response,
    service: ServiceOf,
    gallery: AskedGallery,
    actor: Annotated[Actor, Depends(need("label"))],
    idempotency_key: Annotated[
        str | None, Header(description="Text of the client's own: the same push again is stored once.")
    ] = None,
) -> Crop:
    """Store a picture as a crop. The same `Idempotency-Key` and content within a day give the same crop."""
    pushed = Pushed.of(await read_form(request, gallery.worker, _MOST_PARTS), idempotency_key)
    row = await push(service, gallery, pushed)

    def told() -> Crop:
        service.audit.line("push", actor, gallery.name, [row.id])
        return crop_of(gallery, row, service.addresses)

    found = await service.threads.run(told)
    response.headers["Location"] = service.addresses.crop(gallery.name, row.id)
    return found


@router.get("/crops/{crop}")
async def crop(service: ServiceOf, gallery: AskedGallery, _actor: Read, crop: CropId) -> Crop:
    """Show a crop."""
    return await service.threads.run(_shown, service, gallery, crop)


def _shown(service: Service, gallery: ServedGallery, crop: int) -> Crop:
    return crop_of(gallery, crop_row(gallery, crop), service.addresses)


class ForgottenCrop(BaseModel):
    """What was forgotten with a crop."""

    forgotten: int = Field(description="Number of crops; those of the same content are among them.")
    ids: list[int]
    left: list[str] = Field(description="Where something of them is still on a disk.")


@router.delete("/crops/{crop}")
async def forget_crop(
    service: ServiceOf, gallery: AskedGallery, actor: Annotated[Actor, Depends(need("admin"))], crop: CropId
) -> ForgottenCrop:
    """Forget a crop: its row, descriptor and picture in the gallery, and all that was said of it.

    Its file stays in its folder; the content is not indexed again.
    """
    await service.threads.run(crop_row, gallery, crop)
    result = await service.threads.run(forget, service, gallery, actor, [crop])
    return ForgottenCrop(forgotten=len(result.ids), ids=list(result.ids), left=list(result.left))
