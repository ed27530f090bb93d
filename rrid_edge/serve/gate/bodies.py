"""What a request tells of its body, and how much of it has arrived."""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import given, headers_of

_BODY = "rrid_edge.body"
_MOST_DIGITS = 15


@dataclass
class Body:
    """The body of one request.

    Attributes:
        announced: whether the headers tell of a body.
        length: its bytes as the headers tell; None if it comes in chunks.
        complete: whether all of it has arrived.
    """

    announced: bool
    length: int | None
    complete: bool

    def receiving(self, receive: Receive) -> Receive:
        """``receive``, and notice the end of the body."""

        async def noticing() -> Message:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                self.complete = True
            return message

        return noticing


def body_of(scope: Scope) -> Body:
    """The body of a request, as its headers tell it. Later calls give the same object.

    Raises:
        RequestError: 400 if the headers contradict each other: a proxy could see another request than this service.
    """
    found = scope.get(_BODY)
    if not isinstance(found, Body):
        found = scope[_BODY] = _announced(scope)
    return found


async def json_body(request: Request) -> object:
    """The JSON of a request's body.

    Raises:
        RequestError: 422 if it is none.
    """
    try:
        found: object = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON ({given(error)}): expected what openapi.json describes") from error
    return found


def _announced(scope: Scope) -> Body:
    lengths = headers_of(scope, b"content-length")
    transfers = headers_of(scope, b"transfer-encoding")
    if transfers:
        if lengths or len(transfers) > 1 or transfers[0].strip().lower() != "chunked":
            raise RequestError(
                "headers Transfer-Encoding and Content-Length contradict each other: expected one of them", status=400
            )
        return Body(announced=True, length=None, complete=False)
    if not lengths:
        return Body(announced=False, length=0, complete=True)
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) <= _MOST_DIGITS):
        raise RequestError(
            f"header Content-Length is {given(', '.join(lengths))}: expected one whole number of bytes", status=400
        )
    length = int(lengths[0])
    return Body(announced=length > 0, length=length, complete=length == 0)
