"""Compare the speed of several functions: interleaved calls after a warm-up, summarised by medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

MIN_REPETITIONS = 3
"""Fewest timed calls of a function, even after its time budget is spent."""


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one function.

    Attributes:
        seconds: wall time of each call, in the order measured.
    """

    seconds: tuple[float, ...]

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
    functions: Mapping[str, Callable[[], object]], *, repetitions: int, warm_up: int = 1, budget_s: float = float("inf")
) -> dict[str, Timing]:
    """Time each function ``repetitions`` times in turn, so that a change of the machine's speed affects all of them.

    Args:
        functions: what to call, by name.
        repetitions: timed calls per function.
        warm_up: untimed calls per function before.
        budget_s: seconds after which a function is called no more; at least :data:`MIN_REPETITIONS` calls are timed.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(repetitions):
        for name, function in functions.items():
            if repetition >= MIN_REPETITIONS and sum(seconds[name]) >= budget_s:
                continue
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
