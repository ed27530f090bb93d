"""Answers before the whole body has arrived: the client reads them, then its connection is closed."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrid_edge.serve.gate.bodies import Body, body_of
from rrid_edge.serve.gate.limits import GateLimits
from rrid_edge.serve.gate.problems import RequestError

_CLOSE = (b"connection", b"close")


class Endings:
    """Closes the connection after an answer that came before the end of the body.

    A server that closes while the client still sends resets the connection, and the client may never see the answer.
    So what arrives within ``linger_s`` after the answer is dropped, and the connection is closed then.

    Args:
        app: what answers.
        limits: how long to wait.
    """

    def __init__(self, app: ASGIApp, limits: GateLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = body_of(scope)
        except RequestError:
            body = Body(announced=True, length=None, complete=False)  # it is refused further in
        if body.complete:
            await self._app(scope, receive, send)
            return
        receive = body.receiving(receive)
        await self._app(scope, receive, self._sending(body, receive, send))

    def _sending(self, body: Body, receive: Receive, send: Send) -> Send:
        early = False

        async def sending(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and not body.complete:
                early = True
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (early and is_last):
                await send(message)
                return
            await send({**message, "more_body": True})
            with anyio.move_on_after(self._limits.linger_s):
                while not body.complete:
                    await receive()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        return sending
