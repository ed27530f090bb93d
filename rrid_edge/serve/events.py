"""What happens to the galleries, for programs that follow it: a bounded log of events, written from any thread.

Followers read the log itself. A slow follower holds no copies: what it missed is reported as one event ``reset``.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

RESET = "reset"
"""Kind of the event that says: events were missed, read everything again."""
MOST_IDS = 200
"""Ids of crops per event. ``count`` says how many there are."""
_KEPT = 1_000


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        id: of the event, ``BOOT-N``: N counts from 1 in each run of the service.
        kind: such as ``crop-added``.
        gallery: name of the gallery; empty if it concerns all of them.
        data: what programs get, in JSON types.
    """

    id: str
    kind: str
    gallery: str
    data: Mapping[str, object] = field(default_factory=dict)


class EventLog:
    """The last events of a service. Any thread may publish.

    Args:
        kept: events that are kept, for followers that come back.
        boot: text that tells runs of the service apart; None draws one.
    """

    def __init__(self, kept: int = _KEPT, boot: str | None = None) -> None:
        self._boot = secrets.token_hex(4) if boot is None else boot
        self._events: deque[Event] = deque(maxlen=kept)
        self._count = 0
        self._followers: set[_Follower] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def followers(self) -> int:
        """Number of followers."""
        return len(self._followers)

    @property
    def last_id(self) -> str:
        """Id of the last event."""
        return f"{self._boot}-{self._count}"

    def publish(self, kind: str, gallery: str, data: Mapping[str, object]) -> None:
        """Add an event. Of a list ``ids`` the last :data:`MOST_IDS` stay; ``count`` says how long it was.

        Args:
            kind: of the event.
            gallery: name of the gallery; empty if it concerns all of them.
            data: JSON types.
        """
        facts = {"gallery": gallery, **_bounded(data)}
        with self._lock:
            self._count += 1
            self._events.append(Event(f"{self._boot}-{self._count}", kind, gallery, facts))
        self._wake()

    def follow(self, after: str | None = None, gallery: str | None = None) -> AsyncGenerator[Event, None]:
        """The events from now on, in the event loop that calls this. It ends when the log is closed.

        Args:
            after: id of the last event that the follower has; it gets what came later. An event ``reset`` comes first
                if that is not known any more. None means new events only.
            gallery: only events of this gallery, and those of all galleries.
        """
        follower = _Follower(asyncio.get_running_loop())
        with self._lock:
            position = self._count if after is None else self._position(after)
        return self._followed(follower, position, gallery)

    def close(self) -> None:
        """End all followers, and refuse new ones. The server does this first when it stops; safe to call twice."""
        self._is_closed = True
        self._wake()

    async def _followed(
        self, follower: _Follower, position: int | None, gallery: str | None
    ) -> AsyncGenerator[Event, None]:
        self._followers.add(follower)
        try:
            while True:
                follower.woken.clear()
                events, position = self._after(position)
                for event in events:
                    if event.gallery in (gallery, "") or gallery is None:
                        yield event
                if self._is_closed:
                    return
                if not events:
                    await follower.woken.wait()
        finally:
            self._followers.discard(follower)

    def _position(self, id_: str) -> int | None:
        """How many events came until the one of an id; None if this log never had it."""
        boot, _, number = id_.rpartition("-")
        is_own = boot == self._boot and number.isascii() and number.isdigit() and len(number) < 19
        return int(number) if is_own and int(number) <= self._count else None

    def _after(self, position: int | None) -> tuple[Sequence[Event], int]:
        """The events after a position, or one event ``reset`` if they are not kept any more."""
        with self._lock:
            missed = self._count - position if position is not None else self._count + 1
            if missed > len(self._events):
                return [Event(self.last_id, RESET, "", {})], self._count
            return list(self._events)[len(self._events) - missed :], self._count

    def _wake(self) -> None:
        for follower in tuple(self._followers):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                follower.loop.call_soon_threadsafe(follower.woken.set)


class _Follower:
    """Whoever waits for events in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.woken = loop, asyncio.Event()


def _bounded(data: Mapping[str, object]) -> dict[str, object]:
    ids = data.get("ids")
    if not isinstance(ids, Sequence) or isinstance(ids, str):
        return dict(data)
    return {**data, "ids": list(ids[-MOST_IDS:]), "count": data.get("count", len(ids))}
