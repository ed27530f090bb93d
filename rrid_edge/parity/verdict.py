"""The verdict of a parity check: passed, failed, or not decided with so few crops.

Each criterion compares a measure with a limit of the engine's arithmetic. Cosines are compared as they are: a mean over
images hardly depends on the sample. Changed first answers and the loss of mAP do, so their confidence bounds are
compared: on the good side of the limit they pass, on the bad side they fail, and else nothing is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.parity.agreement import Agreement
from rrid_edge.parity.confidence import crops_needed, mean_interval, share_bounds


class Outcome(str, Enum):
    """The result of a criterion or of a whole check."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "not decided"


@dataclass(frozen=True)
class Tolerance:
    """Limits for one arithmetic.

    Attributes:
        min_cosine: lowest allowed cosine of an image's descriptor with the reference.
        mean_cosine: lowest allowed mean of these cosines.
        changed: largest allowed share of first answers that change in a way that counts, in (0, 1).
        max_map_loss: largest allowed loss of mean average precision (mAP) on labelled crops, in [0, 1].
        source: origin of these limits.
        exact: whether the cosines alone decide. Then few crops suffice, and changed first answers can only fail.
    """

    min_cosine: float
    mean_cosine: float
    changed: float
    max_map_loss: float
    source: str
    exact: bool = False


TOLERANCES: Final = {
    "fp32": Tolerance(
        1 - 1e-7, 1 - 1e-9, 0.001, 0.0005, "float32 rounding through 53 convolutions: measured 1e-12", exact=True
    ),
    "fp16": Tolerance(0.999, 1 - 5e-5, 0.05, 0.005, "11-bit significands; 1 - mean cosine measured 4e-7 to 2e-5"),
    "bf16": Tolerance(0.999, 1 - 1e-4, 0.05, 0.005, "8-bit significands, float32 sums; measured 1e-6 to 2e-5"),
    "int8": Tolerance(
        0.98,
        1 - 3e-4,
        0.05,
        0.01,
        "8-bit values after calibration; 1 - mean cosine measured 2e-5 to 2.2e-4",
    ),
}
"""Arithmetic of the engine -> limits. docs/decisions/parity.md has the measurements."""


@dataclass(frozen=True)
class Criterion:
    """One criterion of a verdict.

    Attributes:
        name: what was judged.
        outcome: the result.
        reason: one line; empty if it passed.
    """

    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Change:
    """Change of a mean over queries, engine minus reference.

    Attributes:
        queries: number of queries.
        mean: the change.
        low: lower end of the 95 % interval (paired bootstrap over queries).
        high: its upper end.
    """

    queries: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, before: NDArray[np.floating], after: NDArray[np.floating]) -> Change:
        """The change of a measure of valid queries, float (queries,) each, at least one."""
        difference = np.asarray(after, np.float64) - before
        return cls(len(difference), float(difference.mean()), *mean_interval(difference))


def overall(criteria: tuple[Criterion, ...]) -> Outcome:
    """Failed if any criterion failed, else not decided if any is not, else passed."""
    found = {criterion.outcome for criterion in criteria}
    return next((outcome for outcome in (Outcome.FAILED, Outcome.UNDECIDED) if outcome in found), Outcome.PASSED)


def judge_cosines(agreement: Agreement, tolerance: Tolerance) -> Criterion:
    """Judge the lowest and the mean cosine with the reference."""
    reasons = []
    if agreement.min_cosine < tolerance.min_cosine:
        reasons.append(f"minimum cosine {agreement.min_cosine:.9g} is below {tolerance.min_cosine:.9g}")
    if agreement.mean_cosine < tolerance.mean_cosine:
        reasons.append(f"mean cosine {agreement.mean_cosine:.10g} is below {tolerance.mean_cosine:.10g}")
    return Criterion("cosines", Outcome.FAILED if reasons else Outcome.PASSED, "; ".join(reasons))


def judge_changes(agreement: Agreement, tolerance: Tolerance) -> Criterion:
    """Judge the share of first answers that changed in a way that counts."""
    name, limit = "first answers", tolerance.changed
    if not agreement.answers:
        return Criterion(name, Outcome.PASSED)
    lower, upper = share_bounds(agreement.counted, agreement.answers)
    seen = f"{agreement.counted:,} of {agreement.answers:,} first answers changed in a way that counts"
    if lower > limit:
        bound = f"at least {lower:.2%} with 95 % confidence, allowed {limit:.1%}"
        return Criterion(name, Outcome.FAILED, f"{seen} ({bound})")
    if upper <= limit or tolerance.exact:
        return Criterion(name, Outcome.PASSED)
    needed = crops_needed(agreement.counted / agreement.answers, limit)
    crops = "more crops" if needed is None else f"at least {max(needed, agreement.answers + 1):,} crops"
    return Criterion(
        name, Outcome.UNDECIDED, f"{seen} (up to {upper:.2%} with 95 % confidence, allowed {limit:.1%}): give {crops}"
    )


def judge_map(change: Change | None, tolerance: Tolerance) -> Criterion:
    """Judge the change of mAP; passed if there is none to judge."""
    name, limit = "mAP", tolerance.max_map_loss
    if change is None or change.low >= -limit:
        return Criterion(name, Outcome.PASSED)
    seen = f"mAP changes by {change.mean:+.4f} (95 % interval {change.low:+.4f} to {change.high:+.4f})"
    if change.high < -limit:
        return Criterion(name, Outcome.FAILED, f"{seen}: expected {-limit:+.4f} or better")
    if change.mean <= -limit:
        return Criterion(name, Outcome.UNDECIDED, f"{seen}: {-limit:+.4f} is allowed; give more crops")
    needed = int(change.queries * ((change.mean - change.low) / (change.mean + limit)) ** 2) + 1
    return Criterion(name, Outcome.UNDECIDED, f"{seen}: {-limit:+.4f} is allowed; give at least {needed:,} queries")


def judge_batches(batch_min_cosine: float, tolerance: Tolerance) -> Criterion:
    """Judge batch invariance: the lowest cosine of a descriptor alone and in a batch."""
    if batch_min_cosine >= tolerance.min_cosine:
        return Criterion("batch invariance", Outcome.PASSED)
    reason = f"descriptors change with the batch: cosine {batch_min_cosine:.9g} is below {tolerance.min_cosine:.9g}"
    return Criterion("batch invariance", Outcome.FAILED, reason)
