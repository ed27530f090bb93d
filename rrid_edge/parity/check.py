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
from rrid_edge.ranking.labels import JUNK_PERSON, Labels
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_ranking
from rrid_edge.ranking.sampling import has_answer


@dataclass(frozen=True)
class Tolerance:
    """Limits for one arithmetic.

    Attributes:
        min_cosine: lowest allowed cosine of an image's descriptor with the reference.
        top1: lowest allowed share of images with the reference's nearest neighbour, in [0, 1].
        top10_identical: True if the first ten positions of every ranking must be the reference's.
        max_map_loss: largest allowed loss of mean average precision (mAP) on labelled crops, in [0, 1].
        source: origin of these limits.
    """

    min_cosine: float
    top1: float
    top10_identical: bool
    max_map_loss: float
    source: str


TOLERANCES = {
    "fp32": Tolerance(0.99999, 1.0, True, 0.0005, "float32 rounding through 53 convolutions is below 1e-6 per value"),
    "fp16": Tolerance(0.999, 0.995, False, 0.001, "11-bit significands; measured 0.99998 on a folded ResNet-50"),
    "bf16": Tolerance(
        0.999, 0.995, False, 0.001, "8-bit significands with float32 sums; measured 0.99998 on ResNet-50"
    ),
    "int8": Tolerance(0.98, 0.98, False, 0.005, "8-bit weights and activations after calibration"),
}
"""Arithmetic of the engine -> limits."""


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
        failures: one line per limit that was missed.
        reference_lengths: shortest and longest length of the reference's descriptors; both 1 if normalised.
        engine_lengths: shortest and longest length of the engine's descriptors.
        map_reference: mean average precision (mAP) of the reference on labelled crops; None without labels.
        map_engine: mAP of the engine; None without labels.
        rank1_reference: rank-1 of the reference across cameras, in [0, 1]; None without labels.
        rank1_engine: rank-1 of the engine; None without labels.
    """

    engine: str
    reference: str
    arithmetic: str
    fingerprint: str
    agreement: Agreement
    batch_min_cosine: float
    tolerance: Tolerance
    failures: tuple[str, ...]
    reference_lengths: tuple[float, float]
    engine_lengths: tuple[float, float]
    map_reference: float | None = None
    map_engine: float | None = None
    rank1_reference: float | None = None
    rank1_engine: float | None = None

    @property
    def passed(self) -> bool:
        """True if no limit was missed."""
        return not self.failures

    @property
    def map_change(self) -> float | None:
        """mAP of the engine minus mAP of the reference; None without labels."""
        if self.map_reference is None or self.map_engine is None:
            return None
        return self.map_engine - self.map_reference

    @property
    def rank1_change(self) -> float | None:
        """Rank-1 of the engine minus rank-1 of the reference; None without labels."""
        if self.rank1_reference is None or self.rank1_engine is None:
            return None
        return self.rank1_engine - self.rank1_reference

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable values, with ``passed``."""
        return {"passed": self.passed, **asdict(self)}


INVARIANCE_BATCHES = (2, 3, 5)
"""Batch sizes in which an image must have the same descriptor as alone."""


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
    agreement = compare(reference, descriptors, engine.spec.blocks)
    tolerance = TOLERANCES[engine.arithmetic]
    before, after = _ranking(reference, goldens.labels), _ranking(descriptors, goldens.labels)
    report = ParityReport(
        engine=engine.runtime,
        reference=reference_name,
        arithmetic=engine.arithmetic,
        fingerprint=engine.spec.fingerprint,
        agreement=agreement,
        batch_min_cosine=batch_invariance(engine, images, batches=batches),
        tolerance=tolerance,
        failures=(),
        reference_lengths=lengths_of(reference),
        engine_lengths=lengths_of(descriptors),
        map_reference=before.mean_ap if before else None,
        map_engine=after.mean_ap if after else None,
        rank1_reference=before.cmc[1] if before else None,
        rank1_engine=after.cmc[1] if after else None,
    )
    return replace(report, failures=tuple(_failures(report)))


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


def _failures(report: ParityReport) -> list[str]:
    agreement, tolerance, invariance = report.agreement, report.tolerance, report.batch_min_cosine
    failures = []
    if agreement.min_cosine < tolerance.min_cosine:
        failures.append(f"minimum cosine {agreement.min_cosine:.6f} is below {tolerance.min_cosine}")
    if agreement.top1_agreement < tolerance.top1:
        failures.append(f"top-1 agreement {agreement.top1_agreement:.2%} is below {tolerance.top1:.1%}")
    if tolerance.top10_identical and not agreement.top10_identical:
        failures.append("the first ten positions of a ranking differ")
    if invariance < tolerance.min_cosine:
        failures.append(f"descriptors change with the batch: cosine {invariance:.6f} is below {tolerance.min_cosine}")
    for name, (shortest, longest) in (("reference", report.reference_lengths), ("engine", report.engine_lengths)):
        if not are_unit_lengths(shortest, longest):
            failures.append(f"descriptors of the {name} have lengths {shortest:.4g} to {longest:.4g}, not 1")
    change = report.map_change
    if change is not None and change < -tolerance.max_map_loss:
        values = f"from {report.map_reference:.4f} to {report.map_engine:.4f}"
        failures.append(f"mAP falls {values}, by more than {tolerance.max_map_loss}")
    return failures


def lengths_of(descriptors: NDArray[np.float32]) -> tuple[float, float]:
    """Shortest and longest length of descriptors (N, D)."""
    lengths = np.linalg.norm(descriptors.astype(np.float64), axis=1)
    return float(lengths.min()), float(lengths.max())


def are_unit_lengths(shortest: float, longest: float) -> bool:
    """Whether both lengths are within :data:`UNIT_LENGTH_SLACK` of 1."""
    return max(1 - shortest, longest - 1) <= UNIT_LENGTH_SLACK


def _ranking(descriptors: NDArray[np.float32], labels: Labels) -> RankingMetrics | None:
    """Metrics with each image as a query against all others; None if no person has crops of two cameras.

    Distractors (person 0) are wrong answers and no queries. Images of unknown person or camera are left out.
    """
    known = (labels.persons > JUNK_PERSON) & (labels.cameras >= 0)
    usable = labels[known]
    asked = has_answer(usable)
    if not asked.any():
        return None
    values = unit_rows(descriptors[known])
    return evaluate_ranking(2 - 2 * (values[asked] @ values.T), usable[asked], usable)
