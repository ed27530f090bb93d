"""One labelled image, and what every reader of datasets checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import DatasetError, printable
from rrid_edge.ranking.labels import Labels


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        path: the file.
        person: number of who is shown; in a dataset's ``train`` renumbered from 0, elsewhere as in the dataset (-1 junk, 0 distractor).
        camera: camera number as in the dataset.
    """

    path: Path
    person: int
    camera: int


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Persons and cameras of ``samples``, in their order."""
    return Labels.of([sample.person for sample in samples], [sample.camera for sample in samples])


def refuse_shared_persons(where: Path, trainval: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse a dataset whose training and test share people.

    Raises:
        DatasetError: names the first such person and the count.
    """
    training = {sample.person for sample in trainval}
    shared = sorted({sample.person for sample in test if sample.person in training and sample.person >= 0})
    if shared:
        raise DatasetError(
            f"{printable(where)}: person {shared[0]} is both in training and in test ({len(shared)} in all); "
            "mend the split: such a result would prove nothing"
        )
