"""One labelled image of a dataset, and a check that all readers of datasets share."""

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
        person: number of the person, as in the dataset (-1 junk, 0 distractor). In ``Dataset.train`` it is renumbered
            from 0.
        camera: number of the camera, as in the dataset.
    """

    path: Path
    person: int
    camera: int


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Persons and cameras of ``samples``, in their order."""
    return Labels.of([sample.person for sample in samples], [sample.camera for sample in samples])


def refuse_shared_persons(where: Path, trainval: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Refuse a dataset with people who are in both training and test.

    Raises:
        DatasetError: there are such people; the message names the first and their number.
    """
    training = {sample.person for sample in trainval}
    shared = sorted({sample.person for sample in test if sample.person in training and sample.person >= 0})
    if shared:
        raise DatasetError(
            f"{printable(where)}: person {shared[0]} is both in training and in test ({len(shared)} in all); "
            "correct the split: results on known people are not valid"
        )
