"""Lines about long work on stderr, where no bar is drawn: see :mod:`rrid_edge.progress`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rrid_edge.cli.terminal import PlainStream
from rrid_edge.progress import Reporter, reporting_to

_SILENT = frozenset({"", "serve", "train"})
"""Commands without such lines: the service has a log, a training a reporter of its own."""
_TRIES, _PAUSE_S = 20, 0.05


class LogLines(Reporter):
    """Says on stderr what a command is doing.

    Between its steps it is silent once there is a result on stdout: a pager may show it.
    """

    def __init__(self, command: str) -> None:
        super().__init__(f"rrid-edge {command} is working", say_between_lines)

    def line(self) -> str | None:
        """See :meth:`Reporter.line`."""
        if not self.is_within_step and isinstance(sys.stdout, PlainStream) and sys.stdout.is_used:
            return None
        return super().line()


def say_between_lines(line: str) -> bool:
    """Print a line on stderr from another thread, never in the middle of a line; returns False if that never ended."""
    for _ in range(_TRIES):
        stream = sys.stderr
        if not isinstance(stream, PlainStream):
            print(line, file=stream, flush=True)
            return True
        if stream.write_line(line):
            return True
        time.sleep(_PAUSE_S)
    return False


@contextlib.contextmanager
def log_lines(command: str) -> Iterator[None]:
    """Context in which a command says every 30 s what it is doing."""
    if command in _SILENT:
        yield
        return
    with LogLines(command) as reporter, reporting_to(reporter):
        yield
