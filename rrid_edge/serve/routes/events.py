"""``/api/v1/events``: what happens to the galleries, as server-sent events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from rrid_edge.json_text import json_text
from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.events import Event
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor, need

router = APIRouter(prefix=API, tags=["events"])

MOST_FOLLOWERS: Final = 256
"""Each follower holds a connection."""
_HEARTBEAT_S: Final = 15
_SEND_S: Final = 30.0
"""Seconds after which a client that takes nothing is dropped."""
_RETRY_MS: Final = 2_000
"""Milliseconds after which a browser comes back."""


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events, without an end."}},
)
async def events(
    service: ServiceOf,
    _actor: Annotated[Actor, Depends(need("read"))],
    gallery: Annotated[str | None, Query(description="Only events of this gallery.")] = None,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that the client has; what came later comes first.")
    ] = None,
) -> EventSourceResponse:
    """Follow the galleries: crops that come and go, people that change, and how far indexing is.

    An event ``reset`` says that events were missed: read everything again.
    """
    if gallery is not None:
        service.gallery(gallery)
    if service.events.followers >= MOST_FOLLOWERS:
        raise RequestError(
            f"{MOST_FOLLOWERS} clients follow the events, and no more may: try again later",
            status=503,
            retry_after_s=10,
        )
    stream = _sent(service.events.follow(last_event_id, gallery))
    return EventSourceResponse(stream, ping=_HEARTBEAT_S, send_timeout=_SEND_S)


async def _sent(followed: AsyncGenerator[Event, None]) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="following", retry=_RETRY_MS)
    async with contextlib.aclosing(followed):
        async for event in followed:
            yield ServerSentEvent(json_text(dict(event.data)), event=event.kind, id=event.id)
