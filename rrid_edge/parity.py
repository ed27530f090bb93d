"""Parity: does an engine answer as the reference does, in vectors, in rankings and in any batch?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.agreement import Agreement, compare, row_cosines
from rrid_edge.engines.base import Engine
from rrid_edge.errors import ForeignGalleryError, UsageError
from rrid_edge.metrics import evaluate_ranking


@dataclass(frozen=True)
class Tolerance:
    """What an engine of one precision has to reach.

    Attributes:
        min_cosine: lowest cosine of any image with its reference.
        top1: lowest share of images with the same nearest neighbour.
        top10_identical: True where the first ten places must be the same.
        max_map_loss: largest loss of mean average precision, in [0, 1], on labelled crops.
        source: where the numbers come from.
    """

    min_cosine: float
    top1: float
    top10_identical: bool
    max_map_loss: float
    source: str


TOLERANCES = {
    "fp32": Tolerance(0.99999, 1.0, True, 0.0005, "float32 rounding through 53 convolutions stays below 1e-6 a value"),
    "fp16": Tolerance(0.999, 0.995, False, 0.001, "11-bit significands; measured 0.99998 on a folded ResNet-50"),
    "bf16": Tolerance(
        0.999, 0.995, False, 0.001, "8-bit significands with float32 sums; measured 0.99998 on ResNet-50"
    ),
    "int8": Tolerance(0.98, 0.98, False, 0.005, "8-bit weights and activations after calibration"),
}
"""By the precision an engine computes in."""


@dataclass(frozen=True)
class ParityReport:
    """The outcome of one comparison.

    Attributes:
        engine: runtime of the engine under test.
        reference: what it was compared with.
        arithmetic: precision the engine computes in; decides the tolerance.
        fingerprint: of the network.
        agreement: the measurements over all images.
        batch_min_cosine: lowest cosine between an image's descriptor in one batch and in another.
        tolerance: what had to be reached.
        failures: one line for each number that was not reached.
        map_reference: mean average precision of the reference on labelled crops, or None.
        map_engine: the same of the engine.
    """

    engine: str
    reference: str
    arithmetic: str
    fingerprint: str
    agreement: Agreement
    batch_min_cosine: float
    tolerance: Tolerance
    failures: tuple[str, ...]
    map_reference: float | None = None
    map_engine: float | None = None

    @property
    def passed(self) -> bool:
        """True where every number was reached."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-serialisable values, with the verdict."""
        return {"passed": self.passed, **asdict(self)}


@dataclass(frozen=True)
class Labels:
    """What file names tell of each image.

    Attributes:
        persons: int64 (N,), -1 where unknown.
        cameras: int64 (N,), -1 where unknown.
    """

    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]


def check_parity(
    engine: Engine,
    images: NDArray[np.uint8],
    reference: NDArray[np.float32],
    *,
    reference_name: str,
    reference_fingerprint: str,
    labels: Labels | None = None,
) -> ParityReport:
    """Run ``engine`` over ``images`` and compare with the reference's descriptors.

    Args:
        engine: the engine under test.
        images: uint8 (N, height, width, 3), N >= 2.
        reference: float32 (N, D) of the same images.
        reference_name: what made them, for the report.
        reference_fingerprint: fingerprint of the network that made them.
        labels: identities and cameras, where known: adds the change of mean average precision.

    Raises:
        ForeignGalleryError: the reference is another network.
        UsageError: fewer than two images, or descriptors that cannot be compared.
    """
    if reference_fingerprint != engine.spec.fingerprint:
        raise ForeignGalleryError(
            f"the reference is another network (fingerprint {reference_fingerprint[:12]}) than the engine "
            f"({engine.spec.fingerprint[:12]}): give the checkpoint, or the goldens, that the engine was exported from"
        )
    if len(images) < 2:
        raise UsageError(f"{len(images)} image(s) prove nothing: give a folder of at least 2 crops, better 100")
    descriptors = engine.run(images)
    agreement = compare(reference, descriptors, engine.spec.blocks)
    tolerance = TOLERANCES[engine.arithmetic]
    invariance = batch_invariance(engine, images)
    map_reference = _mean_ap(reference, labels)
    map_engine = _mean_ap(descriptors, labels)
    failures = _failures(agreement, invariance, tolerance, map_reference, map_engine)
    return ParityReport(
        engine.runtime,
        reference_name,
        engine.arithmetic,
        engine.spec.fingerprint,
        agreement,
        invariance,
        tolerance,
        tuple(failures),
        map_reference,
        map_engine,
    )


def batch_invariance(engine: Engine, images: NDArray[np.uint8], *, batches: Sequence[int] = (2, 3, 5)) -> float:
    """Lowest cosine between an image's descriptor alone and in other company, at every position of several batches."""
    sample = images[: max(batches)]
    alone = np.concatenate([engine.run(sample[index : index + 1]) for index in range(len(sample))])
    lowest = 1.0
    for size in batches:
        for shift in range(min(size, len(sample))):
            order = np.roll(np.arange(len(sample)), shift)[:size]
            lowest = min(lowest, float(row_cosines(engine.run(sample[order]), alone[order]).min()))
    return lowest


def _failures(
    agreement: Agreement,
    invariance: float,
    tolerance: Tolerance,
    map_reference: float | None,
    map_engine: float | None,
) -> list[str]:
    failures = []
    if agreement.min_cosine < tolerance.min_cosine:
        failures.append(f"minimum cosine {agreement.min_cosine:.6f} is below {tolerance.min_cosine}")
    if agreement.top1_agreement < tolerance.top1:
        failures.append(f"top-1 agreement {agreement.top1_agreement:.2%} is below {tolerance.top1:.1%}")
    if tolerance.top10_identical and not agreement.top10_identical:
        failures.append("the first ten places of some ranking differ")
    if invariance < tolerance.min_cosine:
        failures.append(f"descriptors change with the batch: cosine {invariance:.6f} is below {tolerance.min_cosine}")
    if map_reference is not None and map_engine is not None and map_reference - map_engine > tolerance.max_map_loss:
        failures.append(
            f"mAP falls from {map_reference:.4f} to {map_engine:.4f}, by more than {tolerance.max_map_loss}"
        )
    return failures


def _mean_ap(descriptors: NDArray[np.float32], labels: Labels | None) -> float | None:
    """Mean average precision of each image against all others, or None without usable labels."""
    if labels is None:
        return None
    known = (labels.persons > 0) & (labels.cameras >= 0)
    persons, cameras = labels.persons[known], labels.cameras[known]
    across = [
        bool(((persons == person) & (cameras != camera)).any()) for person, camera in zip(persons, cameras, strict=True)
    ]
    if not any(across):
        return None
    values = descriptors[known].astype(np.float64)
    return evaluate_ranking(2 - 2 * (values @ values.T), persons, persons, cameras, cameras).mean_ap


@dataclass(frozen=True)
class Goldens:
    """Images and the descriptors that PyTorch gave for them when the model was exported.

    Attributes:
        images: uint8 (N, height, width, 3).
        descriptors: float32 (N, D).
        names: the N source files, for people.
        fingerprint: of the network.
        labels: identities and cameras.
    """

    images: NDArray[np.uint8]
    descriptors: NDArray[np.float32]
    names: tuple[str, ...]
    fingerprint: str
    labels: Labels


def save_goldens(path: Path, goldens: Goldens) -> None:
    """Write goldens atomically as a compressed ``.npz``.

    Raises:
        OutputError: the file cannot be written.
    """
    from rrid_edge.files import atomic_output

    with atomic_output(path) as partial:
        np.savez_compressed(
            partial,
            images=goldens.images,
            descriptors=goldens.descriptors,
            names=np.array(goldens.names, dtype=np.str_),
            fingerprint=np.array(goldens.fingerprint),
            persons=goldens.labels.persons,
            cameras=goldens.labels.cameras,
        )


def load_goldens(path: Path) -> Goldens:
    """Read goldens back.

    Raises:
        UsageError: no such file.
        ModelFileError: no goldens of this package, or damaged.
    """
    import zipfile
    import zlib

    from rrid_edge.errors import ModelFileError, printable

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Goldens(
                stored["images"],
                stored["descriptors"],
                tuple(str(name) for name in stored["names"]),
                str(stored["fingerprint"]),
                Labels(stored["persons"], stored["cameras"]),
            )
    except FileNotFoundError as error:
        raise UsageError(
            f"{printable(path)}: no such goldens file; rrid-edge export writes it beside the model"
        ) from error
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelFileError(
            f"{printable(path)}: not a goldens file, or damaged ({error}); write it again with: rrid-edge export CHECKPOINT"
        ) from error
