"""Confidence bounds of a share, and paired bootstrap intervals of a mean change.

A share of N crops is judged by its exact binomial bounds (Clopper & Pearson, Biometrika 1934). Each bound is one-sided
and holds with 95 %: if the true share were above the upper bound, so few crops would be seen in less than 5 % of the
samples.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
DRAWS: Final = 2000
"""Bootstrap samples: the ends of an interval move by less than 5 % of its width between seeds."""
_MOST_CROPS: Final = 10_000_000
_BLOCK: Final = 4_000_000
"""Weights of bootstrap samples that are drawn at a time."""
_BISECTIONS: Final = 50


def share_bounds(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """One-sided Clopper-Pearson bounds of a share, each holding with ``confidence``.

    Args:
        count: number of successes, 0 to ``total``.
        total: number of trials, at least 1.
        confidence: of each bound, in (0, 1).

    Returns:
        The lower and the upper bound, in [0, 1].
    """
    rest = 1 - confidence
    upper = 1.0 if count == total else _share_where(count, total, rest)
    lower = 0.0 if count == 0 else _share_where(count - 1, total, confidence)
    return lower, upper


def crops_needed(share: float, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """About how many crops tell a share from a limit, if further crops show the same share.

    It is the number with which the score test (Wilson, JASA 1927) tells them apart, or the exact number if the share
    is 0.

    Args:
        share: the share that was seen, in [0, 1].
        limit: the limit, in (0, 1).
        confidence: as in :func:`share_bounds`.

    Returns:
        The number of crops; None if the share is so near the limit that 10 million would not do.
    """
    if not share:
        return math.ceil(math.log(1 - confidence) / math.log1p(-limit))
    deviations = NormalDist().inv_cdf(confidence)
    variance = limit * (1 - limit)
    if (limit - share) ** 2 * _MOST_CROPS < deviations**2 * variance:
        return None
    return math.ceil(deviations**2 * variance / (limit - share) ** 2)


def mean_interval(values: NDArray[np.floating], *, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """Paired bootstrap interval of a mean: percentiles 2.5 and 97.5 of the means of resampled queries.

    The values are changes per query (engine minus reference), so that each query is paired with itself
    (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        values: float (queries,), at least one.
        seed: seed of the resampling.
        draws: bootstrap samples.
    """
    generator = np.random.default_rng([seed, 41])
    count = len(values)
    means = np.empty(draws)
    block = max(1, _BLOCK // count)
    for start in range(0, draws, block):
        chosen = generator.integers(0, count, (min(block, draws - start), count))
        means[start : start + len(chosen)] = np.asarray(values, np.float64)[chosen].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _share_where(count: int, total: int, probability: float) -> float:
    """The share with which at most ``count`` of ``total`` trials succeed with this probability; by bisection."""
    successes = np.arange(count + 1, dtype=np.float64)
    logs = math.lgamma(total + 1) - _log_factorials(successes) - _log_factorials(total - successes)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        terms = logs + successes * math.log(middle) + (total - successes) * math.log1p(-middle)
        low, high = (middle, high) if np.exp(terms).sum() > probability else (low, middle)
    return high


def _log_factorials(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([math.lgamma(value + 1) for value in values])
