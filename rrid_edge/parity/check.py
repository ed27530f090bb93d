"""The parity check: descriptors, rankings and batch invariance of an engine against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import Engine
from rrid_edge.errors import FingerprintMismatchError, UsageError
from rrid_edge.parity.agreement import Agreement, compare, row_cosines, unit_rows
from rrid_edge.parity.goldens import Goldens
from rrid_edge.parity.verdict import (
    TOLERANCES,
    Change,
    Criterion,
    Outcome,
    Tolerance,
    judge_batches,
    judge_changes,
    judge_cosines,
    judge_map,
    overall,
)
from rrid_edge.progress import step
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_descriptors
from rrid_edge.ranking.sampling import has_answer

UNIT_LENGTH_SLACK = 1e-3
"""Largest allowed difference of a descriptor's length from 1."""


@dataclass(frozen=True)
class ParityReport:
    """The result of one parity check.

    Attributes:
        engine: runtime of the engine under test.
        reference: name of the reference.
        arithmetic: how the engine computes, for example ``bf16``; selects the tolerance.
        fingerprint: fingerprint of the network.
        agreement: agreement over all images.
        batch_min_cosine: lowest cosine between an image's descriptor alone and in a batch.
        tolerance: the limits.
        criteria: what was judged.
        reference_lengths: shortest and longest length of the reference's descriptors; both 1 if normalised.
        engine_lengths: shortest and longest length of the engine's descriptors.
        map_reference: mean average precision (mAP) of the reference on labelled crops; None without labels.
        map_engine: mAP of the engine; None without labels.
        map_interval: change of mAP with its interval; None without labels.
        rank1_reference: rank-1 of the reference across cameras, in [0, 1]; None without labels.
        rank1_engine: rank-1 of the engine; None without labels.
        rank1_interval: change of rank-1 with its interval; None without labels.
    """

    engine: str
    reference: str
    arithmetic: str
    fingerprint: str
    agreement: Agreement
    batch_min_cosine: float
    tolerance: Tolerance
    criteria: tuple[Criterion, ...]
    reference_lengths: tuple[float, float]
    engine_lengths: tuple[float, float]
    map_reference: float | None = None
    map_engine: float | None = None
    map_interval: Change | None = None
    rank1_reference: float | None = None
    rank1_engine: float | None = None
    rank1_interval: Change | None = None

    @property
    def outcome(self) -> Outcome:
        """Failed if any criterion failed, else not decided if any is not, else passed."""
        return overall(self.criteria)

    @property
    def passed(self) -> bool:
        """True if every criterion passed."""
        return self.outcome is Outcome.PASSED

    @property
    def failures(self) -> tuple[str, ...]:
        """One line per criterion that failed."""
        return self._reasons(Outcome.FAILED)

    @property
    def undecided(self) -> tuple[str, ...]:
        """One line per criterion that so few crops cannot decide, with the number that can."""
        return self._reasons(Outcome.UNDECIDED)

    def _reasons(self, outcome: Outcome) -> tuple[str, ...]:
        return tuple(criterion.reason for criterion in self.criteria if criterion.outcome is outcome)

    @property
    def map_change(self) -> float | None:
        """mAP of the engine minus mAP of the reference; None without labels."""
        return None if self.map_interval is None else self.map_interval.mean

    @property
    def rank1_change(self) -> float | None:
        """Rank-1 of the engine minus rank-1 of the reference; None without labels."""
        return None if self.rank1_interval is None else self.rank1_interval.mean

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable values, with the verdict."""
        return {
            "verdict": self.outcome.value,
            "passed": self.passed,
            "failures": list(self.failures),
            "undecided": list(self.undecided),
            **asdict(self),
            "criteria": [asdict(criterion) | {"outcome": criterion.outcome.value} for criterion in self.criteria],
        }


INVARIANCE_BATCHES = (2, 3, 5)
"""Batch sizes in which an image must have the same descriptor as alone."""
_MOST_FLOAT64 = 5000


@step("comparing descriptors with the reference")
def check_parity(
    engine: Engine,
    goldens: Goldens,
    *,
    reference_name: str,
    descriptors: NDArray[np.float32] | None = None,
    batches: Sequence[int] = INVARIANCE_BATCHES,
) -> ParityReport:
    """Run ``engine`` on the images of ``goldens`` and compare its descriptors with theirs.

    Args:
        engine: the engine under test.
        goldens: at least two images with the reference's descriptors. Known labels add the changes of mAP and rank-1.
        reference_name: name of the reference, for the report.
        descriptors: the engine's descriptors of the images, float32 (N, D); None computes them.
        batches: batch sizes to check batch invariance in; empty skips this check.

    Raises:
        FingerprintMismatchError: the reference is another network.
        UsageError: there are fewer than two images, or the descriptors cannot be compared.
    """
    refuse_other_network(engine, goldens.fingerprint, reference_name)
    images, reference = goldens.images, goldens.descriptors
    if len(images) < 2:
        raise UsageError(f"{len(images)} image(s) are too few: expected at least 2 crops; give 100 or more")
    if descriptors is None:
        descriptors = engine.run(images)
    tolerance = TOLERANCES[engine.arithmetic]
    agreement = compare(reference, descriptors, engine.spec.blocks, goldens.labels, least_cosine=tolerance.mean_cosine)
    before, after = _ranking(reference, goldens.labels), _ranking(descriptors, goldens.labels)
    report = ParityReport(
        engine=engine.runtime,
        reference=reference_name,
        arithmetic=engine.arithmetic,
        fingerprint=engine.spec.fingerprint,
        agreement=agreement,
        batch_min_cosine=batch_invariance(engine, images, batches=batches),
        tolerance=tolerance,
        criteria=(),
        reference_lengths=lengths_of(reference),
        engine_lengths=lengths_of(descriptors),
    )
    if before is not None and after is not None:
        map_interval, rank1_interval = ranking_changes(before, after)
        report = replace(
            report,
            map_reference=before.mean_ap,
            map_engine=after.mean_ap,
            map_interval=map_interval,
            rank1_reference=before.cmc[1],
            rank1_engine=after.cmc[1],
            rank1_interval=rank1_interval,
        )
    return replace(report, criteria=_judged(report))


def ranking_changes(before: RankingMetrics, after: RankingMetrics) -> tuple[Change, Change]:
    """Changes of mAP and of rank-1 with their intervals, over the queries that have a right answer."""
    return (
        Change.of(*(_valid(found, found.query_ap) for found in (before, after))),
        Change.of(*(_valid(found, found.query_first_rank == 1) for found in (before, after))),
    )


def _valid(metrics: RankingMetrics, values: NDArray[Any]) -> NDArray[np.float64]:
    return values[metrics.query_first_rank > 0].astype(np.float64)


def refuse_other_network(engine: Engine, fingerprint: str, reference_name: str) -> None:
    """Refuse a reference of another network than the engine's.

    Args:
        engine: the engine under test.
        fingerprint: fingerprint of the reference.
        reference_name: what the message calls it.

    Raises:
        FingerprintMismatchError: ``fingerprint`` is not the engine's.
    """
    if fingerprint != engine.spec.fingerprint:
        raise FingerprintMismatchError(
            f"the reference is another network ({reference_name}, fingerprint {fingerprint[:12]}) than the engine "
            f"({engine.spec.fingerprint[:12]}): give the checkpoint that the engine was exported from, or its goldens"
        )


def batch_invariance(
    engine: Engine, images: NDArray[np.uint8], *, batches: Sequence[int] = INVARIANCE_BATCHES
) -> float:
    """Lowest cosine between an image's descriptor alone and in a batch, over all positions in all ``batches``."""
    if not batches:
        return 1.0
    sample = images[: max(batches)]
    alone = np.concatenate([engine.run(sample[index : index + 1]) for index in range(len(sample))])
    lowest = 1.0
    for size in sorted({min(size, len(sample)) for size in batches}):  # few images fill no large batch: once is enough
        for shift in range(size):
            order = np.roll(np.arange(len(sample)), shift)[:size]
            lowest = min(lowest, float(row_cosines(engine.run(sample[order]), alone[order]).min()))
    return lowest


def _judged(report: ParityReport) -> tuple[Criterion, ...]:
    lengths = [
        f"descriptors of the {name} have lengths {shortest:.4g} to {longest:.4g}, not 1"
        for name, (shortest, longest) in (("reference", report.reference_lengths), ("engine", report.engine_lengths))
        if not are_unit_lengths(shortest, longest)
    ]
    return (
        judge_cosines(report.agreement, report.tolerance),
        judge_batches(report.batch_min_cosine, report.tolerance),
        Criterion("lengths", Outcome.FAILED if lengths else Outcome.PASSED, "; ".join(lengths)),
        judge_changes(report.agreement, report.tolerance),
        judge_map(report.map_interval, report.tolerance),
    )


def lengths_of(descriptors: NDArray[np.float32]) -> tuple[float, float]:
    """Shortest and longest length of descriptors (N, D)."""
    lengths = np.linalg.norm(descriptors.astype(np.float64), axis=1)
    return float(lengths.min()), float(lengths.max())


def are_unit_lengths(shortest: float, longest: float) -> bool:
    """Whether both lengths are within :data:`UNIT_LENGTH_SLACK` of 1."""
    return max(1 - shortest, longest - 1) <= UNIT_LENGTH_SLACK


def _ranking(descriptors: NDArray[np.float32], labels: Labels) -> RankingMetrics | None:
    """Metrics with each image of a known person as a query against all others, distractors included.

    None if no image has a right answer in another camera.
    """
    known = labels.known
    gallery = LabelledCrops(unit_rows(descriptors[known]).astype(_precision(len(descriptors))), labels[known])
    asking = has_answer(gallery.labels)
    if not asking.any():
        return None
    return evaluate_descriptors(LabelledCrops(gallery.descriptors[asking], gallery.labels[asking]), gallery)


def _precision(images: int) -> type[np.floating[Any]]:
    """float64, but float32 where it would take a minute."""
    return np.float64 if images <= _MOST_FLOAT64 else np.float32
