"""One labelled image, and what every reader of datasets checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import DatasetError, printable
from rrid_edge.ranking.labels import Labels

JUNK = -1
"""Identity of images that count neither as right nor as wrong."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        path: the file.
        pid: identity; in a dataset's ``train`` renumbered from 0, elsewhere as in the dataset (-1 junk, 0 distractor).
        camera: camera number as in the dataset.
    """

    path: Path
    pid: int
    camera: int


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Persons and cameras of ``samples``, in their order."""
    return Labels.of([sample.pid for sample in samples], [sample.camera for sample in samples])


def refuse_shared_identities(where: Path, trainval: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse a dataset whose training and test share people.

    Raises:
        DatasetError: names the first such identity and the count.
    """
    training = {sample.pid for sample in trainval}
    shared = sorted({sample.pid for sample in test if sample.pid in training and sample.pid >= 0})
    if shared:
        raise DatasetError(
            f"{printable(where)}: identity {shared[0]} is both in training and in test ({len(shared)} in all); "
            "mend the split: such a result would prove nothing"
        )
