"""The routes of the service, one module per subject."""

from __future__ import annotations

from fastapi import APIRouter

from rrid_edge.serve.routes import galleries, health, metrics

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    galleries.router,
    metrics.router,
)
"""All routers, in the order of the OpenAPI document."""
