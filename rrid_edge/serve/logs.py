"""The log of the service on stderr: one line per request, and lines for start, stop and warnings; text or JSON.

Every module logs with ``logging.getLogger("rrid_edge.serve")``. A line never holds a query string, a token, a path that
a client chose, or a control character.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final, TextIO

from rrid_edge.errors import printable, unforeseen
from rrid_edge.json_text import json_text

LOGGER: Final = logging.getLogger("rrid_edge.serve")
_OTHERS: Final = ("uvicorn.error", "asyncio")
_SILENT: Final = ("python_multipart",)
"""They log malformed bodies, one line each, which the client's answer tells."""
_FACTS: Final = "rrid_edge_facts"
_EVENT: Final = "rrid_edge_event"


@dataclass(frozen=True)
class RequestLine:
    """What the log says of a request.

    Attributes:
        method: of HTTP.
        route: template of the route.
        status: of the answer.
        ms: milliseconds until the last byte.
        actor: name of who asked, or None.
        request_id: of the request.
    """

    method: str
    route: str
    status: int
    ms: float
    actor: str | None
    request_id: str


def log_request(line: RequestLine) -> None:
    """Log a request that ended."""
    if LOGGER.isEnabledFor(logging.INFO):
        facts = {**vars(line), "ms": round(line.ms, 1)}
        text = f"{line.method} {line.route} {line.status} {line.ms:.1f} ms {line.actor or '-'} {line.request_id}"
        LOGGER.info("%s", text, extra={_EVENT: "request", _FACTS: facts})


def log_event(event: str, text: str, **facts: str | float | bool | None) -> None:
    """Log a step of the service's life, such as ``start``.

    Args:
        event: one word for programs.
        text: one line for readers; it holds the facts that matter.
        facts: the same for programs.
    """
    LOGGER.info("%s", text, extra={_EVENT: event, _FACTS: facts})


@contextmanager
def logging_to(form: str, stream: TextIO | None = None) -> Iterator[None]:
    """Write the log of the service, of uvicorn and of asyncio to ``stream`` (None: stderr) while the block runs.

    Args:
        form: ``text`` or ``json``.
        stream: where the lines go.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    loggers = [LOGGER, *map(logging.getLogger, _OTHERS)]
    silent = [logging.getLogger(name) for name in _SILENT]
    before = [(logger, logger.level, logger.propagate) for logger in (*loggers, *silent)]
    for logger in silent:
        logger.setLevel(logging.CRITICAL)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    LOGGER.setLevel(logging.INFO)
    for logger in loggers[1:]:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Text(logging.Formatter):
    """``2026-11-26T10:00:00.000Z info GET /healthz 200 0.4 ms - 1f0c``."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname.lower()} {_message(record)}"


class _Json(logging.Formatter):
    """One object per line: time, level, event, and its facts or message."""

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, _EVENT, "message")
        facts = {name: _plain(value) for name, value in getattr(record, _FACTS, {}).items()}
        message = {} if event == "request" else {"message": _message(record)}
        level = record.levelname.lower()
        return json_text({"time": _time(record), "level": level, "event": event, **facts, **message})


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    """The message on one line, with the error that led to it. A traceback has many lines: the error report holds it."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text = f"{text} ({unforeseen(record.exc_info[1])})"
    return printable(" ".join(text.split()))


def _plain(value: object) -> object:
    return printable(value) if isinstance(value, str) else value
