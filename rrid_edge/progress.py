"""How long work reports progress: a protocol for what is counted, and named steps that a reporter puts into lines.

Work names its steps where they are done, with :func:`step`. Nobody passes a reporter around: the command line sets one
for its thread with :func:`reporting_to`. Without one, steps cost nothing and say nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Protocol

from typing_extensions import Self

from rrid_edge.errors import printable

PAUSE_S = 30.0
"""Seconds between two lines about long work. The first one comes after as many."""
_WINDOW_S = 180.0
"""Seconds that a rate is the mean of."""


class Progress(Protocol):
    """Somebody who wants to know how far some work is; called from the thread that does it."""

    def start(self, total: int | None) -> None:
        """Work on ``total`` items begins; None where their number is not known. Called once, before the first item."""

    def advance(self, count: int) -> None:
        """``count`` more items are done since the last call."""


class NoProgress:
    """Nobody wants to know."""

    def start(self, total: int | None) -> None:
        """Nothing happens."""

    def advance(self, count: int) -> None:
        """Nothing happens."""


NO_PROGRESS = NoProgress()
"""The default of functions that take a :class:`Progress`."""


def clock_text(seconds: float) -> str:
    """A duration as ``m:ss``, or ``h:mm:ss`` from one hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Step:
    """A part of long work. It is a :class:`Progress`: counting is optional, and may start again.

    Args:
        what: what is done, for example ``writing the ONNX file``.
        in_percent: the items mean nothing to a reader, so that only their share is told.
        clock: a clock in seconds.

    Attributes:
        began: time of the clock at which it began.
        total: number of items; None if it is not known, or nothing is counted.
        done: items done.
    """

    def __init__(self, what: str, *, in_percent: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self._in_percent, self._clock = what, in_percent, clock
        self.began = clock()
        self.total: int | None = None
        self.done = 0
        self._marks = deque([(self.began, 0)])

    def start(self, total: int | None) -> None:
        """Count from 0 to ``total``."""
        self.total, self.done = total, 0
        self._marks = deque([(self._clock(), 0)])

    def advance(self, count: int) -> None:
        """Count ``count`` more items."""
        self.done += count

    @property
    def is_open(self) -> bool:
        """Whether the number of items is known, and some are left."""
        return self.total is not None and self.done < self.total

    def describe(self) -> str:
        """What is done, how much of it, the rate over the last minutes, and the time left, as far as they are known.

        For example ``indexing: 4,096 of 20,000 (20 %), 136 per s, 1:56 left``.
        """
        now, done = self._clock(), self.done
        rate = self._rate(now, done)
        told = self._counted(done, rate)
        if not rate or not self.is_open:
            return f"{self.what}: {', '.join([*told, f'{clock_text(now - self.began)} so far'])}"
        assert self.total is not None
        return f"{self.what}: {', '.join(told)}, {clock_text((self.total - done) / rate)} left"

    def _rate(self, now: float, done: int) -> float:
        """Items per second since the first mark of the window; sets a mark."""
        while len(self._marks) > 1 and self._marks[1][0] <= now - _WINDOW_S:
            self._marks.popleft()
        began, before = self._marks[0]
        self._marks.append((now, done))
        return (done - before) / (now - began) if now > began else 0.0

    def _counted(self, done: int, rate: float) -> list[str]:
        if self.total is None and not done:
            return []
        if self._in_percent:
            return [f"{done / (self.total or 1):.0%}".replace("%", " %")]
        share = f" of {self.total:,} ({100 * done // self.total} %)" if self.total else ""
        return [f"{done:,}{share}", *([_rate_text(rate)] if rate and (self.is_open or self.total is None) else [])]


def _rate_text(rate: float) -> str:
    return f"{rate:,.0f} per s" if rate >= 10 else f"{rate:.1f} per s" if rate >= 1 else f"{1 / rate:.1f} s each"


class Reporter:
    """Says what long work is doing, in a line every :data:`PAUSE_S` seconds. A context manager.

    A thread of its own says it, because one step may take minutes in a library. It ends with the context. Work that is
    shorter than the first pause says nothing.

    Args:
        what: what the whole work does, for the time in which no step is named; empty says nothing then.
        say: prints one line. A line of which it returns False is dropped.
        pauses_s: seconds before each of the first lines.
        wait: waits so many seconds, and returns True if nothing is to be said any more.
        clock: a clock in seconds.

    Attributes:
        what: as above; can be changed.
        is_quiet: say nothing. A signal handler can set it.
        counts_only: say nothing but steps whose items are counted and not all done.
    """

    def __init__(
        self,
        what: str,
        say: Callable[[str], object],
        *,
        pauses_s: Sequence[float] = (),
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.clock = what, clock
        self.is_quiet = self.counts_only = False
        self._say, self._pauses_s = say, [*pauses_s]
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait
        self._began = self._told = clock()
        self._steps: list[Step] = []
        self._thread = threading.Thread(target=self.say_in_time, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._thread.ident is None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Say nothing more. A line that is being printed is finished first."""
        self._ended.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(1)  # not for ever: nobody may read what is printed

    def told(self) -> None:
        """The work itself has just said how far it is: the pause starts again."""
        self._told = self.clock()

    def begin(self, step: Step) -> None:
        """A step begins, inside of those that have begun before."""
        self._steps.append(step)

    def finish(self, step: Step) -> None:
        """A step ends."""
        with contextlib.suppress(ValueError):
            self._steps.remove(step)

    @property
    def is_within_step(self) -> bool:
        """Whether a step has begun that has not ended."""
        return bool(self._steps)

    def line(self) -> str | None:
        """The line about the work now; None if there is nothing to say.

        It tells the outermost step with a known number of items left, else the innermost step, else the whole work.
        """
        steps = [*self._steps]  # other threads change it
        chosen = next((one for one in steps if one.is_open), None)
        if chosen is None and not self.counts_only:
            chosen = steps[-1] if steps else None
        told = "" if self.counts_only else self.what
        if chosen is not None:
            told = chosen.describe()
        return printable(f"{clock_text(self.clock() - self._began)}  {told}") if told else None

    def say_in_time(self) -> None:
        """Say lines in time, until the end."""
        pauses_s = iter(self._pauses_s)
        pause_s = next(pauses_s, PAUSE_S)
        while not self._wait(self._told + pause_s - self.clock()):
            if self.clock() - self._told < pause_s:
                continue  # the work said something itself
            self.told()
            pause_s = next(pauses_s, PAUSE_S)
            if self.is_quiet:
                continue
            with contextlib.suppress(Exception):  # nobody reads the lines: the work goes on
                if (line := self.line()) is not None and not self._ended.is_set():
                    self._say(line)


_REPORTER: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


@contextlib.contextmanager
def reporting_to(reporter: Reporter | None) -> Iterator[None]:
    """Context in which the steps of this thread are told to ``reporter``, or to nobody."""
    token = _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(token)


def reporter_here() -> Reporter | None:
    """The reporter of this thread."""
    return _REPORTER.get()


@contextlib.contextmanager
def step(what: str, total: int | None = None, *, in_percent: bool = False) -> Iterator[Step]:
    """Context of one step of long work.

    Not for generators: a step that is suspended is told as if it went on.

    Args:
        what: what is done, such as ``writing the ONNX file``.
        total: number of items to count; None counts nothing, or what :meth:`Step.start` is told.
        in_percent: tell only the share of the items.

    Yields:
        The step, to count its items.
    """
    reporter = _REPORTER.get()
    if reporter is None:
        one = Step(what, in_percent=in_percent)
    else:
        one = Step(what, in_percent=in_percent, clock=reporter.clock)
        reporter.begin(one)
    if total is not None:
        one.start(total)
    try:
        yield one
    finally:
        if reporter is not None:
            reporter.finish(one)
