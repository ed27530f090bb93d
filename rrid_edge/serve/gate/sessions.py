"""Sessions of browsers: a cookie in place of the token, and a second value against requests of other sites."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rrid_edge.serve.gate.tokens import Token, TokenBook

SESSION_S = 12 * 3600
"""Seconds that a session lasts."""
MOST_SESSIONS = 100
"""Open sessions per token; a further login ends the oldest one of this token."""


@dataclass(frozen=True)
class Session:
    """A browser that logged in.

    Attributes:
        token_digest: of the token that it logged in with.
        csrf: the value that requests which change something must send as ``X-CSRF-Token``.
        ends_s: when it ends, by the book's clock.
    """

    token_digest: bytes
    csrf: str
    ends_s: float


class SessionBook:
    """The open sessions. They are in memory: a restart ends them.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, token: Token) -> tuple[str, Session]:
        """Begin a session; returns the value of its cookie, and the session."""
        cookie = secrets.token_urlsafe(32)
        session = Session(token.digest, secrets.token_urlsafe(32), self._clock() + SESSION_S)
        with self._lock:
            self._drop_ended()
            same = [key for key, one in self._sessions.items() if one.token_digest == token.digest]
            for key in same[: max(0, len(same) - MOST_SESSIONS + 1)]:
                del self._sessions[key]
            self._sessions[_key(cookie)] = session
        return cookie, session

    def find(self, cookie: str, tokens: TokenBook) -> tuple[Session, Token] | None:
        """The session of a cookie, and its token as the file has it now.

        Returns:
            None if there is no such session, if it ended, or if its token is no longer in the file.
        """
        key = _key(cookie)
        with self._lock:
            session = self._sessions.get(key)
        if session is None:
            return None
        token = tokens.held(session.token_digest)
        if token is None or session.ends_s <= self._clock():
            self.close(cookie)
            return None
        return session, token

    def close(self, cookie: str) -> None:
        """End the session of a cookie, if there is one."""
        with self._lock:
            self._sessions.pop(_key(cookie), None)

    def __len__(self) -> int:
        return len(self._sessions)

    def _drop_ended(self) -> None:
        now_s = self._clock()
        while self._sessions and next(iter(self._sessions.values())).ends_s <= now_s:  # the oldest ends first
            self._sessions.popitem(last=False)


def is_csrf(session: Session, sent: str | None) -> bool:
    """Whether a request sent the session's value."""
    return sent is not None and hmac.compare_digest(session.csrf.encode(), sent.encode("utf-8", "surrogatepass"))


def _key(cookie: str) -> bytes:
    """Sessions are found by a digest, so that the time of a look-up tells nothing of the values."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).digest()
