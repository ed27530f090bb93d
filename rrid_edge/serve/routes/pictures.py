"""``/api/v1/crops/{id}/image``: pictures of crops."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropId
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.pictures import Picture, crop_row, etag_of, full_picture, thumbnail
from rrid_edge.serve.service import Service

router = APIRouter(prefix=API, tags=["crops"])

_MAX_AGE_S: Final = 300
"""Seconds for which a browser shows a picture without asking. An id never gets another content."""
Size = Literal["thumb", "full"]


@router.head("/crops/{crop}/image", include_in_schema=False)
@router.get(
    "/crops/{crop}/image",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}, "description": "The picture."}, 304: {"description": "Not changed."}},
)
async def image(
    request: Request,
    service: ServiceOf,
    gallery: AskedGallery,
    actor: Annotated[Actor, Depends(need("read"))],
    crop: CropId,
    size: Annotated[Size, Query(description="thumb: at most 160 pixels a side; full: the file.")] = "thumb",
) -> Response:
    """The picture of a crop, by its id. A client that names the ETag in ``If-None-Match`` gets 304."""
    if_none_match = request.headers.get("if-none-match")
    row = await service.threads.run(crop_row, gallery, crop)
    if row.sha256 and _matches(if_none_match, etag_of(row, size)):
        return _answer(etag_of(row, size), None, request.method)
    if size == "full":
        picture = await service.threads.decode(full_picture, gallery, row)
        if request.method != "HEAD":
            await service.threads.run(_note, service, gallery, actor, row.id)
    else:
        picture = await service.threads.decode(thumbnail, gallery, row, service.pictures)
    etag = etag_of(row, size, picture)
    return _answer(etag, None if _matches(if_none_match, etag) else picture, request.method)


def _note(service: Service, gallery: ServedGallery, actor: Actor, crop: int) -> None:
    service.audit.line("image", actor, gallery.name, ids=[crop])


def _matches(given: str | None, etag: str) -> bool:
    """Whether a list of ETags has one, weak ones included (RFC 9110, 13.1.2)."""
    tags = (tag.strip() for tag in (given or "").split(","))
    return any(tag == "*" or tag.removeprefix("W/") == etag for tag in tags)


def _answer(etag: str, picture: Picture | None, method: str) -> Response:
    """The picture, its headers only for ``HEAD``, or 304 without one."""
    headers = {
        "ETag": etag,
        "Cache-Control": f"private, max-age={_MAX_AGE_S}",
        "X-Content-Type-Options": "nosniff",
    }
    if picture is None:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(len(picture.content))
    content = b"" if method == "HEAD" else picture.content
    return Response(content, headers=headers, media_type=picture.media_type)
