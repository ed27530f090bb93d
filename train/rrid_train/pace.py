"""The pace of a training over its last minutes, and what is said while nothing is printed yet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable

from typing_extensions import Self

from rrid_edge.progress import Reporter, reporting_to

_WINDOW_S = 180.0
"""Seconds of training that the pace is the mean of."""
_FIRST_PAUSES_S = (5.0, 10.0, 15.0)
"""Seconds before each of the first lines about what a training waits for: its start takes long."""


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


class Waiting(Reporter):
    """Says on stderr what a training is doing, where it prints nothing itself. A context manager.

    Entering twice starts it once; leaving ends it.

    Args:
        enabled: True on the main process only.
        wait: waits so many seconds, and returns True if nothing is to be said any more.
        clock: a clock in seconds.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("starting", _say, pauses_s=_FIRST_PAUSES_S, wait=wait, clock=clock)
        self._enabled = enabled
        self._heard = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._heard.enter_context(reporting_to(self if self._enabled else None))
        return super().__enter__() if self._enabled else self

    def __exit__(self, *_error: object) -> None:
        self._heard.close()
        self.end()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
