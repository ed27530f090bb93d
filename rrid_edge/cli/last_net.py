"""The last net below a command: every error becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from typing_extensions import Self

from rrid_edge.cli.signals import STOPPING, told_of
from rrid_edge.cli.terminal import OutputClosedError
from rrid_edge.errors import OutputError, RridEdgeError, UnexpectedError, item_of, printable, unforeseen
from rrid_edge.stopping import Results, collecting_results, results_here

OUTPUT_CLOSED = 141
"""128 and the signal SIGPIPE, as shells have it."""
_LONGEST_COMMAND = 120
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEEPS_MORE = frozenset({"train", "index", "embed-many", "match", "serve", "gallery", "demo-data"})
"""Commands that write more than single files. They say themselves what is kept if they are stopped."""


class LastNet:
    """A context that no exception leaves. Threads and freed objects are watched inside.

    Args:
        arguments: command line, for a report.
        hints: finds the options that set the parameters of an error.
        debug: print tracebacks too.

    Attributes:
        code: exit code. The command sets it; an error replaces it, and an error of a thread replaces 0.
    """

    def __init__(self, arguments: Sequence[str], hints: Callable[[Sequence[str]], list[str]], *, debug: bool) -> None:
        self.code = 0
        self._arguments, self._hints, self._debug = arguments, hints, debug
        self._codes: list[int] = []
        self._results = results_here() or Results(are_all=not _KEEPS_MORE & {*arguments})
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._hooks.enter_context(self.watching())
        self._hooks.enter_context(collecting_results(self._results))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        self._hooks.close()
        if error is not None:
            try:
                self.code = self._tell(error)
            except BaseException as second:
                self.code = self._last_words(second)
            _end_quietly()
        self.code = self.code or max(self._codes, default=0)
        return True

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Turn errors of threads, and of objects that are freed, into one line each."""
        before = threading.excepthook, sys.unraisablehook
        threading.excepthook, sys.unraisablehook = self._in_thread, self._while_freeing
        try:
            yield
        finally:
            threading.excepthook, sys.unraisablehook = before

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        if STOPPING.number is not None:
            return  # what breaks while a command is being stopped is no news
        if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
            self._codes.append(self._tell(failure.exc_value))

    def _while_freeing(self, failure: sys.UnraisableHookArgs) -> None:
        error = failure.exc_value
        if error is None or isinstance(error, (KeyboardInterrupt, BrokenPipeError)):
            return
        with contextlib.suppress(Exception):  # Python may be ending, with half of its modules
            if self._debug:
                traceback.print_exception(error)
            print(f"rrid-edge: ignored while an object was freed: {unforeseen(error)}", file=sys.stderr, flush=True)

    def _tell(self, error: BaseException) -> int:
        """Print the one line of an error and return its exit code."""
        if (stopped := told_of(error, self._results)) is not None:
            with contextlib.suppress(OSError):
                if stopped[0]:
                    print(printable(stopped[0]), file=sys.stderr, flush=True)
            return stopped[1]
        if isinstance(error, OutputClosedError):
            return OUTPUT_CLOSED
        told = error if isinstance(error, RridEdgeError) else _of_file(error) or self._unexpected(error)
        ways: list[str] = []
        with contextlib.suppress(Exception):  # a hint is worth less than the line
            ways = self._hints(told.parameters) if told.parameters else []
        hint = f" ({', '.join(ways)})" if ways else ""
        with contextlib.suppress(OSError):  # nobody reads stderr: the exit code tells
            if self._debug:
                traceback.print_exception(told)
            print(f"rrid-edge: {printable(told.message)}{hint}", file=sys.stderr, flush=True)
        return told.exit_code

    def _unexpected(self, error: BaseException) -> UnexpectedError:
        """The line about an error that nobody foresaw. It names the item at work and a new report."""
        if isinstance(error, MemoryError) and error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        kind, _, reason = unforeseen(error).partition(": ")
        item = item_of(error)
        command = next((printable(one) for one in self._arguments if not one.startswith("-")), "")
        work = f" while working on {item}" if item else f" in rrid-edge {command}".rstrip()
        try:
            from rrid_edge.machine.error_reports import command_line, redacted, write_report

            work = work if item else f" in {_cut(command_line(self._arguments))}"
            work, reason = redacted(work, os.environ), redacted(reason, os.environ)
            advice = f"please send {printable(write_report(error, self._arguments))} to the developers"
        except Exception:
            advice = "no report could be written: repeat with --debug, and send the traceback to the developers"
        told = UnexpectedError(f"unexpected {kind}{work}{reason and f': {reason}'}; {advice}")
        told.__cause__ = error
        return told

    def _last_words(self, error: BaseException) -> int:
        if (stopped := told_of(error, self._results)) is not None:
            return stopped[1]
        if isinstance(error, OutputClosedError):
            return OUTPUT_CLOSED
        with contextlib.suppress(Exception):
            print(f"rrid-edge: {unforeseen(error)}", file=sys.stderr, flush=True)
        return UnexpectedError.exit_code


def _cut(command: str) -> str:
    return command if len(command) <= _LONGEST_COMMAND else f"{command[: _LONGEST_COMMAND - 1]}…"


def _of_file(error: BaseException) -> OutputError | None:
    """The file system's error as one of this package; None for others, such as a lost connection."""
    if not isinstance(error, OSError) or not error.errno or isinstance(error, (ConnectionError, ChildProcessError)):
        return None
    where = printable(error.filename or item_of(error) or "file system")
    advice = "; free space, or write elsewhere" if error.errno in _FULL else ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "; allow more with: ulimit -n 1024"
    told = OutputError(f"{where}: {error.strerror or unforeseen(error)}{advice}")
    told.__cause__ = error
    return told


def _end_quietly() -> None:
    """Make Python's last flush succeed, also of an output that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
            continue
        with contextlib.suppress(Exception):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
