"""``/api/v1/crops``: list, show, push and forget crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from rrid_edge.gallery.paging import PageRequest
from rrid_edge.serve.addresses import API, Addresses
from rrid_edge.serve.answers import Crop, crop_of, crops_of
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropId
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.listing import cursor_of, filter_of, position_of
from rrid_edge.serve.pictures import crop_row
from rrid_edge.serve.service import Service

router = APIRouter(prefix=API, tags=["crops"])

MOST_CROPS: Final = 200
_USUAL_CROPS: Final = 50
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
    return await service.threads.run(_page, service, gallery, asked)


def _page(service: Service, gallery: ServedGallery, asked: AskedPage) -> CropPage:
    request = PageRequest(
        asked.limit,
        asked.order == "oldest",
        position_of(asked.cursor, asked.order),
        filter_of(list(asked.camera), asked.since, asked.until),
    )
    page = service.listing.page(gallery, request)
    return CropPage(
        crops=crops_of(gallery, page.rows, Addresses(service.settings.root_path)),
        next=None if page.after is None else cursor_of(page.after, asked.order),
        total=page.total,
    )


@router.get("/crops/{crop}")
async def crop(service: ServiceOf, gallery: AskedGallery, _actor: Read, crop: CropId) -> Crop:
    """Show a crop."""
    return await service.threads.run(_shown, service, gallery, crop)


def _shown(service: Service, gallery: ServedGallery, crop: int) -> Crop:
    return crop_of(gallery, crop_row(gallery, crop), Addresses(service.settings.root_path))
