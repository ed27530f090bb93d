"""Timing several ways of doing the same thing so that they can be compared: interleaved, after warm-up, medians."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

MIN_REPETITIONS = 3
"""Timed calls of a way that has used up its time."""


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        seconds: each repetition's wall time, in the order measured.
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
    ways: Mapping[str, Callable[[], object]], *, repetitions: int, warm_up: int = 1, budget_s: float = float("inf")
) -> dict[str, Timing]:
    """Time each way ``repetitions`` times, taking turns, so that a change of the machine's mood meets all of them.

    Args:
        ways: name -> what to call.
        repetitions: timed calls of each.
        warm_up: calls of each before.
        budget_s: a way that has taken so many seconds drops out, after :data:`MIN_REPETITIONS` calls at least.
    """
    for way in ways.values():
        for _ in range(warm_up):
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        for name, way in ways.items():
            if repetition >= MIN_REPETITIONS and sum(seconds[name]) >= budget_s:
                continue
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
