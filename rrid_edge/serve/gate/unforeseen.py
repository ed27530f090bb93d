"""Errors that nobody foresaw: one line to the client, one to the log, and a report in a file."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrid_edge.errors import RridEdgeError, printable, unforeseen
from rrid_edge.machine.error_reports import redacted, write_report
from rrid_edge.serve.gate.arriving import BodyRefused
from rrid_edge.serve.gate.problems import problem_response, response_to

_LOG = logging.getLogger("rrid_edge.serve")
REPORT_AGAIN_S: Final = 60.0
"""Seconds in which the same error gets no second report: reports are few, and other errors need them too."""
_MOST_PLACES: Final = 100


class LastNet:
    """Answers every error of what it wraps. It raises nothing.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._reports = app, Reports()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            # Starlette wraps errors of streams. The server then closes the connection: the client sees a broken answer.
            if has_begun and isinstance(error.__cause__, RridEdgeError):
                _LOG.warning("%s was broken off: %s", place_of(scope), error.__cause__.message)
                return
            response = None
            if isinstance(error, BodyRefused):
                response = response_to(error.error, scope["path"])
            elif isinstance(error, RridEdgeError):
                response = response_to(error, scope["path"])
            else:
                detail = await anyio.to_thread.run_sync(self._reports.line, error, place_of(scope))
                response = problem_response(500, detail, scope["path"])
            if not has_begun:  # otherwise the server closes the connection, so the client sees a broken answer
                await response(scope, receive, send)


def place_of(scope: Scope) -> str:
    """The method and the route's template; the path itself may name people."""
    template = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {template}" if isinstance(template, str) else str(scope["method"])


class Reports:
    """Writes reports of unforeseen errors, one per minute of the same error at the same place.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: dict[tuple[str, str, int], tuple[float, str]] = {}
        self._lock = threading.Lock()

    def line(self, error: BaseException, where: str) -> str:
        """Write a report, log one line that names it, and return the line for the client.

        The client's line names the report's file, but no folder of this machine and no words of the error, which
        could show data of others.

        Args:
            error: the error.
            where: what was asked.
        """
        kind, _, reason = unforeseen(error).partition(": ")
        report = self._report(error)
        known = f"please send {printable(report)} to the developers" if report else "no report could be written"
        reason = redacted(reason, os.environ)
        _LOG.error("unexpected %s in %s%s; %s", kind, where, f": {reason}" if reason else "", known)
        kept = f"its machine keeps the report {os.path.basename(report)}" if report else "see its log"  # noqa: PTH119
        return f"unexpected {kind} in the service: {kept}, which its operator can send to the developers"

    def _report(self, error: BaseException) -> str:
        """The report's file; empty if none can be written."""
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1] if frames else None
        place = (type(error).__name__, last.filename if last else "", last.lineno or 0 if last else 0)
        with self._lock:
            at_s, path = self._written.get(place, (-REPORT_AGAIN_S, ""))
            if path and self._clock() - at_s < REPORT_AGAIN_S:
                return path
            try:
                path = str(write_report(error, sys.argv[1:]))
            except (OSError, RridEdgeError):
                return ""
            if len(self._written) >= _MOST_PLACES:
                self._written.clear()
            self._written[place] = self._clock(), path
            return path
