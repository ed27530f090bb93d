"""What every request leaves behind: a number, a line in the log, and an id. Refused requests leave the same."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrid_edge.serve.logs import RequestLine, log_request
from rrid_edge.serve.metrics import Metrics

CLIENT_WENT_AWAY: Final = 499
"""Code of a request whose client left before the answer; no status of HTTP says so."""
PAGE_ROUTE: Final = "page"
UNKNOWN_ROUTE: Final = "unknown"
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID_HEADER: Final = b"x-request-id"
_BODY_REFUSALS: Final = {408: "too-slow", 411: "no-length", 413: "too-large", 415: "wrong-type"}
_UPLOAD_REFUSALS: Final = {422: "unreadable", 429: "queue-full", 504: "too-late"}
_UPLOADS: Final = ("multipart/", "image/")


@dataclass(frozen=True)
class RequestFacts:
    """The request that is being answered.

    Attributes:
        id: of the request: the client's own, or a made one.
        client: network address of the client, as the server or a trusted proxy says; None if there is none.
    """

    id: str
    client: str | None


_CURRENT: ContextVar[RequestFacts | None] = ContextVar("rrid_edge_request", default=None)


def current_request() -> RequestFacts | None:
    """The request that this task, or this thread on its behalf, answers; None outside of one."""
    return _CURRENT.get()


class ActorLike(Protocol):
    """Who asks, as the gate found out."""

    name: str
    role: str


class Traces:
    """A middleware that counts, logs and numbers all requests. It must be the outermost one.

    Args:
        app: the application below.
        metrics: counts the requests.
        routes: whose templates name the requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Iterable[BaseRoute]) -> None:
        self._app, self._metrics = app, metrics
        self._routes = [route for route in routes if isinstance(route, Route)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then count and log."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        answer = _Answer(_request_id(headers.get(_ID_HEADER)), send)
        client = scope.get("client")
        token = _CURRENT.set(RequestFacts(answer.id, client[0] if client else None))
        self._metrics.begin()
        start = time.perf_counter()
        try:
            await self._app(scope, receive, answer.send)
        except BaseException as error:
            if answer.code is None:
                answer.code = 500 if isinstance(error, Exception) else CLIENT_WENT_AWAY
            raise
        finally:
            _CURRENT.reset(token)
            self._end(scope, headers, answer, time.perf_counter() - start)
        return None

    def _end(self, scope: Scope, headers: dict[bytes, bytes], answer: _Answer, seconds: float) -> None:
        code = answer.code or CLIENT_WENT_AWAY
        route = self._template(scope, code)
        self._metrics.request(scope["method"], route, code, None if answer.is_stream else seconds)
        if reason := _refusal(scope["method"], code, headers.get(b"content-type", b"")):
            self._metrics.upload_refused(reason)
        actor: ActorLike | None = scope.get("state", {}).get("actor")
        name = None if actor is None else actor.name
        log_request(RequestLine(scope["method"], route, code, seconds * 1000, name, answer.id))

    def _template(self, scope: Scope, code: int) -> str:
        """The template of the route, also of a request that was refused before it was routed."""
        found = getattr(scope.get("route"), "path", None)
        if isinstance(found, str):
            return found
        path = scope["path"].removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
        for route in self._routes:
            if route.path_regex.match(path):
                return route.path
        return PAGE_ROUTE if path in ("", "/") or code < 400 else UNKNOWN_ROUTE


class _Answer:
    """Passes the messages of an answer on, and notes its status."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.id, self.code = request_id, None
        self.is_stream = False
        self._send = send

    code: int | None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.code = message["status"]
            headers = [*message.get("headers", ()), (_ID_HEADER, self.id.encode("ascii"))]
            self.is_stream = any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
            )
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(given: bytes | None) -> str:
    """The client's id if it is short and plain, else a made one: it goes into the log and back into a header."""
    text = (given or b"").decode("latin-1")
    return text if _ID.fullmatch(text) else secrets.token_hex(8)


def _refusal(method: str, code: int, content_type: bytes) -> str | None:
    """Why an upload was refused, in one of a few words; None if it was not, or was no upload."""
    if method != "POST":
        return None
    if content_type.decode("latin-1").lower().startswith(_UPLOADS) and code in _UPLOAD_REFUSALS:
        return _UPLOAD_REFUSALS[code]
    return _BODY_REFUSALS.get(code)
