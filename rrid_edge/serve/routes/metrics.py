"""``/metrics``: numbers for Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.gate.roles import Actor, need

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, service: ServiceOf, _actor: Annotated[Actor, Depends(need("read"))]) -> Response:
    """Give the numbers of the service in the text format of Prometheus, or as OpenMetrics if that is asked for."""
    text, media_type = await service.threads.run(service.metrics.text, request.headers.get("accept", ""))
    return Response(text, media_type=media_type)
