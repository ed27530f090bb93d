"""No request waits for ever, and none works for a client that went away."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrid_edge.serve.addresses import API
from rrid_edge.serve.gate.bodies import Body, body_of
from rrid_edge.serve.gate.limits import GateLimits
from rrid_edge.serve.gate.problems import problem_response
from rrid_edge.serve.gate.scopes import SAFE_METHODS, route_path

_WATCH_AFTER_S: Final = 0.05
"""Shorter requests are not watched: the task would cost them more than it saves."""
_ASKING: Final = frozenset({f"{API}/search", f"{API}/embed"})
"""Routes whose method is POST, and which may be given up at any point."""


class Deadlines:
    """Answers 504 if no answer has begun within ``deadline_s``.

    An answer that has begun is never cut: exports and events may take as long as their client listens. Work that only
    reads is given up at the deadline, and when its client goes away. Work that writes goes on to its end, so that what
    it changed and its audit line stay together.

    Args:
        app: what answers.
        limits: the deadline.
    """

    def __init__(self, app: ASGIApp, limits: GateLimits) -> None:
        self._app, self._deadline_s = app, limits.deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Run(scope, receive, send).within(self._deadline_s, self._app)


class _Run:
    """One request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._body: Body = body_of(scope)
        self._reads_only = scope["method"] in SAFE_METHODS or route_path(scope) in _ASKING
        self._work = anyio.CancelScope()
        self._has_begun = False
        self._refusal: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def within(self, deadline_s: float, app: ASGIApp) -> None:
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(deadline_s, self._refuse, deadline_s)]
        if self._reads_only:
            timers.append(loop.call_later(_WATCH_AFTER_S, self._begin_watch))
        try:
            with self._work:
                await app(self._scope, self._receive, self._sending)
        finally:
            for timer in timers:
                timer.cancel()
            if self._watch is not None:
                self._watch.cancel()
        if self._refusal is not None:
            await self._refusal

    async def _sending(self, message: Message) -> None:
        if self._refusal is None:
            self._has_begun = True
            await self._send(message)

    def _refuse(self, deadline_s: float) -> None:
        if self._has_begun:
            return
        detail = f"no answer within {deadline_s:g} s: expected less work to be waiting; try again later"
        response = problem_response(504, detail, self._scope["path"])
        self._refusal = asyncio.ensure_future(response(self._scope, self._receive, self._send))
        if self._reads_only or not self._body.complete:
            self._work.cancel()

    def _begin_watch(self) -> None:
        if not self._has_begun and self._refusal is None:
            self._watch = asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        """Give the work up when the client goes away. The body's reader notices that by itself."""
        while not self._body.complete:
            await asyncio.sleep(_WATCH_AFTER_S)
        while (await self._receive())["type"] == "http.request":
            pass
        if not self._has_begun:
            self._work.cancel()
