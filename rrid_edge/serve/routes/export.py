"""``/api/v1/people/{id}/export``: all that the gallery holds of a person, as one file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import StreamingResponse

from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.export import Export, sent
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.peopling import Found, find, nobody
from rrid_edge.serve.service import Service

router = APIRouter(prefix=API, tags=["people"])


@router.get(
    "/people/{person}/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The zip file, made while it is sent."}},
)
async def export_person(
    service: ServiceOf,
    gallery: AskedGallery,
    actor: Annotated[Actor, Depends(need("admin"))],
    person: Annotated[str, Path(max_length=32, description="p3 for a confirmed person, s12 for a suggested one.")],
) -> StreamingResponse:
    """Export a person's crops as a zip file: `pictures/`, `crops.csv`, `descriptors.npy` and `README.txt`."""
    found, roster = await find(service, gallery, person)
    crops = found.crops(roster)
    if not crops:
        raise nobody(person)
    export = await service.threads.run(_export, service, gallery, actor, (person, found, crops))
    parts = export.parts()
    first = await service.threads.run(next, parts)  # an error before it is answered as one
    headers = {"Content-Disposition": f'attachment; filename="{person}.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(_stream(first, parts, service), media_type="application/zip", headers=headers)


def _export(service: Service, gallery: ServedGallery, actor: Actor, whom: tuple[str, Found, tuple[int, ...]]) -> Export:
    name, found, crops = whom
    rows = {row.id: row for row in gallery.store.rows_by_id(crops)}
    title = name if found.person is None else f"{name} ({found.person.name})"
    service.audit.line("export", actor, gallery.name, sorted(rows))
    return Export(gallery, title, [rows[crop] for crop in crops if crop in rows])


async def _stream(first: bytes, parts: Generator[bytes, None, None], service: Service) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(sent(parts, service.threads)) as others:
        yield first
        async for part in others:
            yield part
