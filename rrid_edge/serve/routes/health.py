"""``/healthz`` and ``/readyz``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor, need

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the service."""

    status: str


@router.get("/healthz")
async def healthz() -> Health:
    """Answer that the process is alive. No token is needed."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(service: ServiceOf, _actor: Annotated[Actor, Depends(need("read"))]) -> Health:
    """Answer whether all engines are open, and 503 if not."""
    failure = next((worker.failure for worker in service.workers.values() if worker.failure is not None), None)
    if failure is not None:
        raise RequestError(failure.message, status=503)
    if not service.is_ready:
        raise RequestError("an engine is still opening: try again in a second", status=503, retry_after_s=1)
    return Health(status="ready")
