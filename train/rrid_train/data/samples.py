"""One labelled image of a dataset, and a check that all readers of datasets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.crops.naming import name_reader
from rrid_edge.errors import DatasetError, printable
from rrid_edge.ranking.labels import Labels


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        path: the file.
        person: number of the person, as in the dataset (-1 junk, 0 distractor). ``Dataset`` renumbers people to train
            on from 0, and people held out for validation from 1.
        camera: number of the camera, as in the dataset.
        sequence: name of the sequence within the camera; the empty text if it is not known.
    """

    path: Path
    person: int
    camera: int
    sequence: str = ""


def labels_of(samples: Sequence[Sample]) -> Labels:
    """Persons and cameras of ``samples``, in their order."""
    return Labels.of([sample.person for sample in samples], [sample.camera for sample in samples])


def paired_labels(query: Sequence[Sample], gallery: Sequence[Sample]) -> tuple[Labels, Labels]:
    """Labels of both sides of an evaluation, with sequences.

    Crops of one camera and sequence share a number, on both sides. So do two entries of one file whose sequence is not
    known.
    """
    numbers: dict[tuple[int, str] | Path, int] = {}
    sides = []
    for samples in (query, gallery):
        keys = [(sample.camera, sample.sequence) if sample.sequence else sample.path for sample in samples]
        sequences = [numbers.setdefault(key, len(numbers)) for key in keys]
        persons, cameras = [sample.person for sample in samples], [sample.camera for sample in samples]
        sides.append(Labels.of(persons, cameras, sequences))
    return sides[0], sides[1]


def refuse_shared_persons(
    where: Path, trainval: Sequence[Sample], test: Sequence[Sample], *, separate: bool = False
) -> None:
    """Refuse a dataset with people who are in both training and test.

    Args:
        where: folder of the dataset, for the message.
        trainval: images to train on and to validate with.
        test: images of the test split.
        separate: say that datasets of this form may number the people of both parts separately.

    Raises:
        DatasetError: there are such people; the message names the first and their number.
    """
    training = {sample.person for sample in trainval}
    shared = sorted({sample.person for sample in test if sample.person in training and sample.person >= 0})
    if shared:
        files = (sample.path.as_posix() for sample in test if sample.person == shared[0])
        named = name_reader("auto")(next(files)).person or shared[0]
        hint = ", or read it as msmt17 if its parts number their people separately" if separate else ""
        raise DatasetError(
            f"{printable(where)}: person {named} is both in training and in test ({len(shared)} in all); "
            f"correct the split: results on known people are not valid{hint}",
            parameter="dataset_type" if separate else (),
        )
