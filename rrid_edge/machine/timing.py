"""Compare the speed of several functions: interleaved calls after a warm-up, summarised by medians.

Each measurement knows the share of CPU time that other programs took meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from rrid_edge.machine.foreign_cpu import SHORTEST_S, Repeats, quietest

MIN_REPETITIONS = 3
"""Fewest timed calls of a function, even after its time budget is spent."""


@dataclass(frozen=True)
class Quiet:
    """How to get a measurement that other programs do not disturb.

    Attributes:
        least_s: seconds that all calls together take at least; more calls than asked for are timed for it. Shorter
            ones have no share of foreign CPU.
        repeats: how often to measure again while other programs take more than
            :data:`~rrid_edge.machine.foreign_cpu.FOREIGN_LIMIT` of the CPU; the quietest measurement counts.
    """

    least_s: float = 1.2 * SHORTEST_S
    repeats: Repeats = field(default_factory=lambda: Repeats(2))


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one function.

    Attributes:
        seconds: wall time of each call, in the order measured.
        foreign_cpu: share of foreign CPU while all functions of the measurement took turns; None if it is not known.
    """

    seconds: tuple[float, ...]
    foreign_cpu: float | None = None

    @property
    def median(self) -> float:
        """Median in seconds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half the distance between the 10th and the 90th percentile, as a share of the median."""
        low, high = np.percentile(self.seconds, (10, 90))
        return float((high - low) / 2 / self.median)

    def percentile_ms(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return float(np.percentile(self.seconds, percent) * 1000)


def interleave(
    functions: Mapping[str, Callable[[], object]],
    *,
    repetitions: int,
    warm_up: int = 1,
    budget_s: float = float("inf"),
    quiet: Quiet | None = None,
) -> dict[str, Timing]:
    """Time each function ``repetitions`` times in turn, so that a change of the machine's speed affects all of them.

    Args:
        functions: what to call, by name.
        repetitions: timed calls per function.
        warm_up: untimed calls per function before.
        budget_s: seconds after which a function is called no more; at least :data:`MIN_REPETITIONS` calls are timed.
        quiet: how to get a measurement that other programs do not disturb; None measures once.
    """
    quiet = quiet or Quiet(least_s=0, repeats=Repeats(1))
    for function in functions.values():
        for _ in range(warm_up):
            function()
    seconds, share = quietest(lambda: _rounds(functions, repetitions, budget_s, quiet.least_s), quiet.repeats)
    return {name: Timing(tuple(values), share) for name, values in seconds.items()}


def _rounds(
    functions: Mapping[str, Callable[[], object]], repetitions: int, budget_s: float, least_s: float
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    begun, repetition = time.perf_counter(), 0
    while repetition < repetitions or time.perf_counter() - begun < least_s:
        for name, function in functions.items():
            if MIN_REPETITIONS <= repetition < repetitions and sum(seconds[name]) >= budget_s:
                continue
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
        repetition += 1
    return seconds
