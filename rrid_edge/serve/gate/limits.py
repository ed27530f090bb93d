"""Limits on bodies: their type, their bytes, and the time that they may take to arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.types import ASGIApp, Receive, Scope, Send

from rrid_edge.serve.addresses import API
from rrid_edge.serve.gate.arriving import Arriving, Bounds, HeldBytes, Pace, SlowBodies, too_large
from rrid_edge.serve.gate.bodies import body_of
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import client_address, given, header_of, headers_of, media_type_of, route_path

JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
_LONGEST_BOUNDARY: Final = 70
"""Characters, by RFC 2046."""
_FORM_PATHS: Final = frozenset({f"{API}/login"})


@dataclass(frozen=True)
class GateLimits:
    """How much a client may ask of the service.

    Attributes:
        body_bytes: of a multipart body.
        json_bytes: of a JSON body; a descriptor of 3840 values takes 80 KB.
        form_bytes: of a form, which holds a token.
        held_bytes: of all bodies of running requests; at least one body of ``body_bytes`` always fits.
        deadline_s: until an answer must begin.
        headers_s: until all headers must have arrived.
        silence_s: between two parts of a body.
        slow_after_s: after this time a body counts as slow.
        most_slow: slow bodies at once; of one address, half of them.
        linger_s: to drop the rest of a body after an early answer.
        stall_s: that a client may take to accept the next part of an answer.
        most_connections: open at once.
        header_bytes: of one request's headers and address.
    """

    body_bytes: int = 20 << 20
    json_bytes: int = 1 << 20
    form_bytes: int = 8 << 10
    held_bytes: int = 256 << 20
    deadline_s: float = 30.0
    headers_s: float = 10.0
    silence_s: float = 10.0
    slow_after_s: float = 1.0
    most_slow: int = 256
    linger_s: float = 2.0
    stall_s: float = 30.0
    most_connections: int = 900
    header_bytes: int = 32 << 10


class Limits:
    """Refuses bodies before they are read where the headers tell enough, and while they arrive otherwise.

    Args:
        app: what answers.
        limits: of bodies.
    """

    def __init__(self, app: ASGIApp, limits: GateLimits) -> None:
        self._app, self._limits = app, limits
        self._slow = SlowBodies(limits.most_slow)
        self._held = HeldBytes(max(limits.held_bytes, limits.body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            RequestError: 400, 413 or 415.
        """
        if scope["type"] != "http" or not (body := body_of(scope)).announced:
            await self._app(scope, receive, send)
            return
        refuse_encoded(scope)
        most_bytes = self._most_bytes(scope)
        if body.length is not None and body.length > most_bytes:
            raise too_large(f"{body.length} bytes", most_bytes)
        pace = Pace(self._limits, self._slow, client_address(scope))
        arriving = Arriving(body, receive, Bounds(most_bytes, closing_boundary(scope)), pace, self._held)
        try:
            await self._app(scope, arriving.receive, send)
        finally:
            arriving.end()

    def _most_bytes(self, scope: Scope) -> int:
        """The largest body of a request by its content type.

        Raises:
            RequestError: 415.
        """
        most = {JSON: min(self._limits.json_bytes, self._limits.body_bytes), MULTIPART: self._limits.body_bytes}
        if route_path(scope) in _FORM_PATHS:
            most = {JSON: self._limits.form_bytes, FORM: self._limits.form_bytes}
        media_type = media_type_of(scope)
        if media_type not in most:
            shown = given(media_type) or "missing"
            raise RequestError(f"the content type of the body is {shown}: expected {' or '.join(most)}", status=415)
        return most[media_type]


def refuse_encoded(scope: Scope) -> None:
    """Refuse compressed bodies: a few of their bytes can become gigabytes.

    Raises:
        RequestError: 415.
    """
    encodings = [value.strip().lower() for value in headers_of(scope, b"content-encoding")]
    if any(encoding != "identity" for encoding in encodings):
        raise RequestError(
            f"the body is encoded ({given(', '.join(encodings))}): expected it without Content-Encoding", status=415
        )


def closing_boundary(scope: Scope) -> bytes:
    """What a multipart body ends with; empty for other bodies. Without it Starlette would drop the last part silently.

    Raises:
        RequestError: 400 if the content type names no boundary.
    """
    if media_type_of(scope) != MULTIPART:
        return b""
    boundary = parse_options_header(header_of(scope, b"content-type"))[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
        raise RequestError(
            f"the content type {MULTIPART} has no boundary of 1 to {_LONGEST_BOUNDARY} characters: expected one",
            status=400,
        )
    return b"--" + boundary + b"--"
