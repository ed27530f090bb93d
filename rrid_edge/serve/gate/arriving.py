"""A body while it arrives: its bytes are counted, and pauses and slow senders are limited."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from rrid_edge.serve.gate.bodies import Body
from rrid_edge.serve.gate.problems import RequestError, problem_of

if TYPE_CHECKING:
    from rrid_edge.serve.gate.limits import GateLimits

_GRACE_S: Final = 0.25
"""Seconds that every part has at least."""
_AFTER_END: Final = 4
"""Bytes that may follow the closing boundary: a line break, and a few more for odd clients."""


class BodyRefused(HTTPException):
    """A body that was refused while it arrived.

    Attributes:
        error: why.
    """

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.status, error.message, dict(problem_of(error).headers))
        self.error = error


class SlowBodies:
    """Places for bodies that arrive slowly. An address gets half of them.

    Args:
        most: places.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> None:
        """Take a place.

        Raises:
            BodyRefused: 503 if none is free.
        """
        if self._taken.total() >= self._most or self._taken[address] >= max(1, self._most // 2):
            error = "too many bodies arrive slowly at the moment: expected this one at once; try again later"
            raise BodyRefused(RequestError(error, status=503, retry_after_s=10))
        self._taken[address] += 1

    def give_back(self, address: str) -> None:
        """Give a place back."""
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]


class HeldBytes:
    """The bytes of all bodies that are held at the moment.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def take(self, count: int) -> None:
        """Hold more bytes.

        Raises:
            BodyRefused: 503 if they are too many with those of other requests.
        """
        if self._held + count > self._most:
            error = "the bodies of other requests fill the memory for them: expected fewer at once; try again later"
            raise BodyRefused(RequestError(error, status=503, retry_after_s=2))
        self._held += count

    def give_back(self, count: int) -> None:
        """Hold fewer bytes, at the end of a request."""
        self._held -= count


class Arriving:
    """One body while it arrives.

    Args:
        body: what the headers tell.
        receive: gives the next part.
        bounds: of the body.
        pace: how long it may take.
        held: bytes of all bodies.
    """

    def __init__(self, body: Body, receive: Receive, bounds: Bounds, pace: Pace, held: HeldBytes) -> None:
        self._body, self._receive, self._bounds, self._pace, self._held = body, receive, bounds, pace, held
        self._bytes = 0
        self._tail = b""

    async def receive(self) -> Message:
        """The next part.

        Raises:
            BodyRefused: 400, 408, 413 or 503.
        """
        if self._body.complete:
            return await self._receive()
        message = await self._pace.next_part(self._receive)
        part: bytes = message.get("body", b"")
        if self._bytes + len(part) > self._bounds.most_bytes:
            raise BodyRefused(too_large("more", self._bounds.most_bytes))
        self._held.take(len(part))
        self._bytes += len(part)
        if end := self._bounds.end:
            kept = len(end) + _AFTER_END
            self._tail = (self._tail + part[-kept:])[-kept:]
            if self._body.complete and message["type"] == "http.request" and end not in self._tail:
                error = "the multipart body ends early: expected its closing boundary at the end"
                raise BodyRefused(RequestError(error, status=400))
        return message

    def end(self) -> None:
        """Give back what the body took, at the end of its request."""
        self._held.give_back(self._bytes)
        self._pace.end()


@dataclass(frozen=True)
class Bounds:
    """What a body must keep to.

    Attributes:
        most_bytes: bytes at most.
        end: bytes that it must end with; empty for any.
    """

    most_bytes: int
    end: bytes


class Pace:
    """How fast one body arrives.

    Args:
        limits: of times.
        slow: places for slow bodies.
        address: of the client.
    """

    def __init__(self, limits: GateLimits, slow: SlowBodies, address: str) -> None:
        self._limits, self._slow, self._address = limits, slow, address
        self._is_slow = False
        self._until_slow_s = time.monotonic() + limits.slow_after_s

    async def next_part(self, receive: Receive) -> Message:
        """Wait for the next part.

        Raises:
            BodyRefused: 408 or 503.
        """
        silence_s = self._limits.silence_s
        if not self._is_slow:
            # After a busy second of this process, what lies in the socket must be read before it is called slow.
            wait_s = max(min(_GRACE_S, self._limits.slow_after_s), self._until_slow_s - time.monotonic())
            with anyio.move_on_after(wait_s):
                return await receive()
            silence_s -= wait_s
            self._slow.take(self._address)
            self._is_slow = True
        with anyio.move_on_after(silence_s):
            return await receive()
        error = f"nothing of the body arrived for {self._limits.silence_s:g} s: expected all of it without a pause"
        raise BodyRefused(RequestError(error, status=408))

    def end(self) -> None:
        """Give the place of a slow body back."""
        if self._is_slow:
            self._is_slow = False
            self._slow.give_back(self._address)


def too_large(seen: str, most_bytes: int) -> RequestError:
    """The refusal of a body that has ``seen``."""
    shown = f"{most_bytes / (1 << 20):g} MiB" if most_bytes >= 1 << 20 else f"{most_bytes} bytes"
    return RequestError(f"the body has {seen}: expected at most {shown}", status=413)
