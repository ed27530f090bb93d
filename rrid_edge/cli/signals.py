"""Ctrl-C and SIGTERM: the first stops a command in order, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType

from rrid_edge.errors import printable
from rrid_edge.stopping import Results, TerminatedError, kept_of

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes as shells have them."""
_ONE_PRESS_S = 0.3
"""Signals that follow so soon are the same request: ``timeout`` and others send to a process and to its group."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAMED = 5


class Stopping:
    """What asked this process to stop.

    Attributes:
        number: the signal that :meth:`on_signal` handled; None if there was none.
        seen: the first signal that arrived, whoever handles it; None if there was none.
        is_over: the command has ended: a signal that comes now stops nothing.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.seen: int | None = None
        self.is_over = False
        self._since = 0.0

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: raise once.

        Raises:
            TerminatedError: it is SIGTERM.
            KeyboardInterrupt: it is SIGINT.
        """
        if self.number is None and not self.is_over:
            self.number, self._since = number, time.monotonic()
            raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt
        if self.number is not None and time.monotonic() - self._since > _ONE_PRESS_S:
            end_at_once(number)


STOPPING = Stopping()
"""Of this process."""


def end_at_once(number: int) -> None:
    """End the process without cleaning up. The next run removes temporary files."""
    with contextlib.suppress(OSError):
        os.write(2, b"ended at once\n")
    os._exit(128 + number)


def catch_signals(*, second_ends: bool = True) -> None:
    """Let Ctrl-C and SIGTERM raise in the main thread. What the parent process ignores stays ignored.

    Args:
        second_ends: the second one ends the process, also while a library works in native code or a handler was
            replaced. False leaves that to a handler of the command.
    """
    caught = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, STOPPING.on_signal)
    if caught and second_ends:
        _watch_for_the_second()


def _watch_for_the_second() -> None:
    """Start the thread that sees signals at once: Python runs handlers only between two of its own instructions."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_leave_signals_alone)
    threading.Thread(target=_watch, args=(readable,), name="signals", daemon=True).start()


def _leave_signals_alone() -> None:
    """In a child, signals do what its starter expects, and Ctrl-C is not counted a second time for the parent."""
    with contextlib.suppress(ValueError):  # forked by another thread than the main one
        signal.set_wakeup_fd(-1)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == STOPPING.on_signal:
                signal.signal(number, handler)


def _watch(readable: int) -> None:
    first: float | None = None
    with contextlib.suppress(OSError):
        while numbers := os.read(readable, 64):
            now = time.monotonic()
            asked = [number for number in numbers if number in _SIGNALS]
            if not asked:
                continue
            STOPPING.seen = STOPPING.seen or asked[0]
            if first is None:
                first = now
            elif now - first > _ONE_PRESS_S:
                end_at_once(asked[-1])


def end_as_asked(code: int) -> int:
    """The exit code after a command. A process that SIGTERM stopped ends by this signal, as service managers expect.

    Args:
        code: exit code of the command.
    """
    STOPPING.is_over = True
    if code == TERMINATED:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # process 1 of a container goes on
    return code


def told_of(error: BaseException, results: Results) -> tuple[str, int] | None:
    """The line about a command that was stopped, and its exit code; None if ``error`` is not about that.

    Any error is, after a signal: libraries turn Ctrl-C into errors of their own, and workers that got it too break.

    Args:
        error: that left the command.
        results: what it had written.
    """
    number = STOPPING.number
    if isinstance(error, SystemExit):  # of a library's own handler, such as that of Ray while it starts
        number = number or STOPPING.seen
    if not isinstance(error, KeyboardInterrupt) and number is None:
        return None
    terminated = isinstance(error, TerminatedError) or number == signal.SIGTERM
    name, code = ("SIGTERM", TERMINATED) if terminated else ("SIGINT", INTERRUPTED)
    kept = kept_of(error) if isinstance(error, KeyboardInterrupt) else None
    if kept == "":  # the command has said it
        return "", code
    kept = kept or _of_results(results)
    return f"stopped by {name}{kept and f'; {kept}'}", code


def _of_results(results: Results) -> str:
    written = results.written()
    if not written:
        return "no result was written" if results.are_all else ""
    names = ", ".join(map(printable, written[:_NAMED]))
    more = f" and {len(written) - _NAMED} more" if len(written) > _NAMED else ""
    return f"written are {names}{more}; run the same command again for the rest"
