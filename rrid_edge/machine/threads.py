"""The number of CPU threads, chosen by a short measurement.

More threads are slower where other programs use the cores: every parallel loop waits for the thread that has no core.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rrid_edge.machine.processor import usable_cores

BUDGET_S = 2.0
"""Seconds that a measurement may take."""
_ROUNDS = 9
_ROUNDS_TO_JUDGE = 3
_HOPELESS = 1.5
"""After three rounds, a number that is this many times slower than the best is timed no more."""
_WORTH = 1.05
"""More threads must be this many times as fast as fewer ones. Less is noise, and takes cores from other programs."""
_CROWDED = 1.2
"""From this factor on, fewer threads are faster because other programs use the cores, not by chance."""


@dataclass(frozen=True)
class ThreadChoice:
    """The number of threads to use, and why.

    Attributes:
        threads: the chosen number.
        seconds: median seconds per call, by number of threads.
    """

    threads: int
    seconds: Mapping[int, float]

    def describe(self) -> str:
        """One line, for example ``threads: 1 (measured 3.1x faster than 2: other programs use the cores)``."""
        others = [count for count in self.seconds if count != self.threads]
        if not others:
            return f"threads: {self.threads}"
        most, own = max(others), self.seconds[self.threads]
        factor = self.seconds[most] / own
        if most < self.threads:
            return f"threads: {self.threads} (measured {factor:.1f}x faster than {most})"
        if factor >= _CROWDED:
            return f"threads: {self.threads} (measured {factor:.1f}x faster than {most}: other programs use the cores)"
        return f"threads: {self.threads} (measured: {most} are no faster)"


def thread_counts(most: int | None = None) -> tuple[int, ...]:
    """Numbers of threads to try, in ascending order: 1, half of the cores, and all of them.

    Args:
        most: largest number; by default the usable cores, or ``OMP_NUM_THREADS`` where the user set fewer.
    """
    if most is None:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        most = min(usable_cores(), max(1, int(asked))) if asked.isdecimal() else usable_cores()
    return tuple(sorted({1, max(1, most // 2), most}))


def choose_threads(
    run: Callable[[int], object],
    counts: Sequence[int],
    *,
    budget_s: float = BUDGET_S,
    timer: Callable[[], float] = time.perf_counter,
) -> ThreadChoice:
    """Time the same work with several numbers of threads, in turn, and choose the fastest.

    Args:
        run: does a short piece of the work with so many threads.
        counts: numbers of threads to try, at least one.
        budget_s: seconds after which no further round begins; one round is always timed.
        timer: a clock in seconds.

    Returns:
        The smallest number whose median time is within 5 % of the best median.
    """
    if len(counts) == 1:
        return ThreadChoice(counts[0], {})
    start = timer()
    for count in counts:
        run(count)  # the first call starts threads and reserves memory
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    tried = list(counts)
    for number in range(_ROUNDS):
        # A round takes as long as those before: the next one must end within the budget.
        if number and (timer() - start) * (number + 2) / (number + 1) > budget_s:
            break
        for count in tried:
            before = timer()
            run(count)
            seconds[count].append(timer() - before)
        if number + 1 >= _ROUNDS_TO_JUDGE:
            best = min(statistics.median(seconds[count]) for count in tried)
            tried = [count for count in tried if statistics.median(seconds[count]) < _HOPELESS * best]
            if len(tried) == 1:
                break
    medians = {count: statistics.median(values) for count, values in seconds.items()}
    limit = min(medians.values()) * _WORTH
    return ThreadChoice(min(count for count, median in medians.items() if median <= limit), medians)
