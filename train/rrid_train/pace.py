"""The pace of a training over its last minutes, and what is said while nothing is printed yet."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, repeat

from typing_extensions import Self

from rrid_edge.errors import printable

_WINDOW_S = 180.0
"""Seconds of training that the pace is the mean of."""
_PAUSES_S = (5.0, 10.0, 15.0, 30.0, 60.0)
"""Seconds between two lines about what a training waits for; the last one repeats."""


class Pace:
    """Seconds per step and images per second, over the last minutes of training.

    Only training counts, not validations and saves. The first step of a process is left out as soon as there is another
    one: it reserves memory, and may compile.

    Args:
        window_s: seconds of training to look back on. One step always counts, however long it took.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._steps: deque[tuple[float, int]] = deque()
        self._total_s, self._images = 0.0, 0
        self._is_first = True

    def add(self, seconds: float, images: int) -> None:
        """Count one step over ``images`` images of all processes."""
        if len(self._steps) == 1 and self._is_first:
            self._is_first = False
            self._drop()
        self._steps.append((seconds, images))
        self._total_s += seconds
        self._images += images
        while len(self._steps) > 1 and self._total_s - self._steps[0][0] >= self._window_s:
            self._drop()

    def _drop(self) -> None:
        seconds, images = self._steps.popleft()
        self._total_s -= seconds
        self._images -= images

    @property
    def seconds_per_step(self) -> float:
        """Mean seconds per step; 0 before the first step."""
        return self._total_s / max(1, len(self._steps))

    @property
    def images_per_s(self) -> float:
        """Images per second; 0 before the first step."""
        return self._images / self._total_s if self._images else 0.0


def clock_text(seconds: float) -> str:
    """A duration as ``m:ss``, or ``h:mm:ss`` from one hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Waiting:
    """Says on stderr what a training is doing, until its first progress line. A context manager.

    A thread of its own prints the lines, because one step can take minutes. Entering twice starts it once.

    Args:
        enabled: True on the main process only.
        wait: waits so many seconds, and returns True if nothing is to be said any more.

    Attributes:
        what: what the training is doing; the caller sets it.
        is_quiet: print nothing more. Unlike :meth:`end`, a signal handler can set it.
    """

    def __init__(self, *, enabled: bool, wait: Callable[[float], bool] | None = None) -> None:
        self.what, self.is_quiet = "starting", False
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait
        self._thread = threading.Thread(target=self.say_in_time, name="progress", daemon=True) if enabled else None

    def __enter__(self) -> Self:
        if self._thread is not None and self._thread.ident is None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Say nothing more."""
        self._ended.set()

    def say_in_time(self) -> None:
        """Print what the training is doing, in pauses that grow from 5 s to a minute."""
        start = time.monotonic()
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            if self._wait(pause_s) or self.is_quiet:
                return
            line = printable(f"{clock_text(time.monotonic() - start)}  {self.what}")
            print(line, file=sys.stderr, flush=True)
