"""Prove an adopted file against the original network, before it gets its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines import Engine
from rrid_edge.errors import CheckFailedError, ModelFileError, UsageError, printable
from rrid_edge.parity.agreement import row_cosines
from rrid_edge.parity.check import ParityReport, are_unit_lengths, check_parity, lengths_of
from rrid_edge.parity.goldens import Goldens
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import refused

PROVED_BATCHES: Final = (2, 3, 5)
_LEAST_COSINE: Final = 1 - 1e-5
_SAME: Final = 1e-7
"""Descriptors of different images that differ less do not depend on the image."""


def check_descriptors(path: Path, descriptors: NDArray[np.floating[Any]], facts: Facts) -> None:
    """Refuse descriptors of the original network that can tell nobody from another.

    Args:
        path: the network's file.
        descriptors: of different images, (N, D).
        facts: what the network is fed.

    Raises:
        ModelFileError: descriptors are not finite, or all the same.
        UsageError: they have other lengths than 1, though the facts say that the network normalises.
    """
    if not np.isfinite(descriptors).all():
        raise refused(path, "its descriptors are not finite, expected numbers")
    longest = lengths_of(descriptors.astype(np.float32))[1]
    if longest <= _SAME or float(np.abs(descriptors - descriptors[0]).max()) <= _SAME:
        raise refused(path, "its descriptors are the same for all images, expected different ones")
    check_lengths(path, descriptors)


def check_repeated(path: Path, descriptors: NDArray[np.floating[Any]], again: NDArray[np.floating[Any]]) -> None:
    """Refuse a network that answers otherwise when it is asked again.

    Args:
        path: the network's file.
        descriptors: of all images, (N, D).
        again: of the first images, from another run.

    Raises:
        ModelFileError: they differ.
    """
    if not float(row_cosines(descriptors[: len(again)], again).min()) >= _LEAST_COSINE:
        raise refused(path, "its descriptors change from run to run, expected the same for the same image")


def check_lengths(path: Path, descriptors: NDArray[np.floating[Any]]) -> None:
    """Refuse other lengths than 1 of a network that is said to normalise.

    Args:
        path: the network's file.
        descriptors: of unit length, or as a network gives them that is said to normalise, (N, D).

    Raises:
        UsageError: a length is not 1.
    """
    shortest, longest = lengths_of(descriptors.astype(np.float32))
    if not are_unit_lengths(shortest, longest):
        raise UsageError(
            f"{printable(path)}: its descriptors have lengths {shortest:.4g} to {longest:.4g}, not 1, though the "
            "choice none says so; choose l2",
            parameter="normalise",
        )


def prove(engine: Engine, goldens: Goldens, name: str, culprit: str) -> tuple[ParityReport, NDArray[np.float32]]:
    """Compare an adopted file with the original network, at several batch sizes.

    Args:
        engine: the adopted file, opened.
        goldens: images with the original network's descriptors.
        name: name of the original, for the report.
        culprit: the operator that keeps the network to one batch size, for the message.

    Returns:
        The parity report, and the file's descriptors of the golden images, float32 (N, D).

    Raises:
        ModelFileError: the descriptors change with the batch.
        CheckFailedError: the file fails parity.
    """
    sample = goldens.images[: max(PROVED_BATCHES)]
    alone = np.concatenate([engine.run(sample[index : index + 1]) for index in range(len(sample))])
    for size in PROVED_BATCHES:
        try:
            lowest = float(row_cosines(engine.run(sample[:size]), alone[:size]).min())
        except ModelFileError as error:
            raise _changes(engine, size, culprit, "cannot be computed") from error
        if not lowest >= _LEAST_COSINE:
            raise _changes(engine, size, culprit, f"are others than alone (cosine {lowest:.4f})")
    descriptors = engine.run(goldens.images)
    report = check_parity(engine, goldens, reference_name=name, descriptors=descriptors)
    if report.failures:
        raise CheckFailedError(
            f"the adopted file differs from the original: {'; '.join(report.failures)}; nothing was written"
        )
    return report, descriptors


def _changes(engine: Engine, size: int, culprit: str, what: str) -> ModelFileError:
    reason = f"at a batch of {size} its descriptors {what}; expected the same for any batch"
    where = Path(engine.spec.origin or engine.spec.backbone)
    return refused(where, f"{culprit}: {reason}" if culprit else reason)
