"""Text on its way to a terminal. Control characters are shown as escapes, whoever prints them."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TextIO

from rrid_edge.errors import printable

_VERBOSE: ContextVar[bool] = ContextVar("verbose", default=False)


def set_verbose(wanted: bool) -> None:
    """Let messages of the command that runs give the reasons of a choice in full, or in one clause."""
    _VERBOSE.set(wanted)


def is_verbose() -> bool:
    """Whether messages give the reasons of a choice in full: option ``--verbose``."""
    return _VERBOSE.get()


class OutputClosedError(BrokenPipeError):
    """The reader of stdout or stderr has gone, for example ``head``."""


def plain(text: str, escape: Callable[[str], str] = printable) -> str:
    """``text`` in which ``escape`` has treated every line with a character that is not printable.

    Control characters, marks of writing direction, other line separators and lone surrogates are not printable.
    Newlines stay.
    """
    if text.isprintable():
        return text
    return "\n".join(line if line.isprintable() else escape(line) for line in text.split("\n"))


def plain_json(text: str) -> str:
    r"""JSON in which every character that is not printable is an escape of JSON, such as ``\u009b``."""
    return plain(text, _json_escape)


def _json_escape(line: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


class PlainStream(io.TextIOBase):
    """A text stream that writes :func:`plain` text to ``target``, in its encoding. Closing it leaves ``target`` open.

    Args:
        target: the stream; None, as of a process without stdout, takes all text and keeps none.
        is_result: its text is the result, so that a full disk is an error. Remarks that find no space are dropped.

    Attributes:
        is_used: whether something was written.
    """

    def __init__(self, target: TextIO | None, *, is_result: bool = True) -> None:
        self.target, self._is_result = target, is_result
        self.is_used = self._within_line = False
        self._turn = threading.RLock()  # a signal handler may print while its thread prints

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property, as in io.TextIOWrapper
        """Of ``target``."""
        return getattr(self.target, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write ``text`` with escapes.

        Raises:
            OutputClosedError: its reader has gone.
        """
        shown = plain(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        with self._turn:
            if text:
                self.is_used, self._within_line = True, not text.endswith("\n")
            if self.target is not None:
                with _naming_the_reader(self._is_result):
                    self.target.write(shown)
        return len(text)

    def write_line(self, line: str) -> bool:
        """Write and flush a line of its own; returns False if another thread is in the middle of one.

        Raises:
            OutputClosedError: its reader has gone.
        """
        with self._turn:
            if self._within_line:
                return False
            self.write(f"{line}\n")
            self.flush()
        return True

    def flush(self) -> None:
        """Flush ``target``.

        Raises:
            OutputClosedError: its reader has gone.
        """
        if self.target is not None:
            with _naming_the_reader(self._is_result):
                self.target.flush()

    def isatty(self) -> bool:
        """Whether ``target`` is a terminal."""
        return self.target is not None and self.target.isatty()

    def fileno(self) -> int:
        """The descriptor of ``target``."""
        return super().fileno() if self.target is None else self.target.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Nothing happens: ``target`` belongs to others."""


@contextlib.contextmanager
def _naming_the_reader(is_result: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError(*error.args) from error
    except OSError as error:
        if not is_result and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return
        error.filename = error.filename or "standard output"
        raise


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Context in which all text on stdout and stderr is :func:`plain`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = PlainStream(sys.stdout), PlainStream(sys.stderr, is_result=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def behind(stream: TextIO) -> TextIO:
    """What a :class:`PlainStream` writes to, for a program of this package that draws with control characters."""
    while isinstance(stream, PlainStream) and stream.target is not None:
        stream = stream.target
    return stream
