"""The routes of the service, one module per subject."""

from __future__ import annotations

from fastapi import APIRouter

from rrid_edge.serve.routes import (
    crops,
    embed,
    events,
    export,
    feedback,
    galleries,
    health,
    info,
    metrics,
    people,
    pictures,
    search,
    session,
)

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    session.router,
    info.router,
    galleries.router,
    search.router,
    embed.router,
    crops.router,
    pictures.router,
    people.router,
    export.router,
    feedback.router,
    events.router,
    metrics.router,
)
"""All routers, in the order of the OpenAPI document."""
