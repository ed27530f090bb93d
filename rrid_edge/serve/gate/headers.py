"""Headers of every answer that keep a browser from doing what the page does not need."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrid_edge.serve.gate.scopes import route_path

PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_POLICY: Final = b"content-security-policy"
_CACHE: Final = b"cache-control"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
    (_POLICY, PAGE_POLICY.encode()),
)


class Headers:
    """Adds the headers that an answer does not set itself, and removes the one that names the server's software.

    Answers of the API are not stored unless they say so. Others are asked for again before they are used.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cache = b"no-store" if route_path(scope).startswith("/api/") else b"no-cache"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = with_default_headers(message.get("headers", ()), cache)
            await send(message)

        await self._app(scope, receive, sending)


def with_default_headers(headers: object, cache: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that it does not set itself; ``cache`` is the ``Cache-Control``."""
    found = [(bytes(name).lower(), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]
    names = {name for name, _ in found}
    found = [pair for pair in found if pair[0] != b"server"]
    found += [pair for pair in _ALWAYS if pair[0] not in names]
    return found if _CACHE in names else [*found, (_CACHE, cache)]
