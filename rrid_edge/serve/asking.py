"""What routes take from a request: the service, and the gallery that is asked."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.service import Service


# Dependencies are async, because FastAPI runs others in a thread, which takes 0.2 ms per dependency.
async def service_of(request: Request) -> Service:
    """The service of the application."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceOf = Annotated[Service, Depends(service_of)]


async def _asked_gallery(
    service: ServiceOf,
    gallery: Annotated[str | None, Query(description="Name of the gallery; needed if several are served.")] = None,
) -> ServedGallery:
    return service.gallery(gallery)


AskedGallery = Annotated[ServedGallery, Depends(_asked_gallery)]
