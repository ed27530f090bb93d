"""Person, camera and sequence of each crop: the labels that rankings and thresholds are evaluated with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from rrid_edge.errors import UsageError

JUNK_PERSON = -1
"""Label of crops that are neither right nor wrong answers."""
DISTRACTOR_PERSON = 0
"""Label of crops that are wrong answers for every query."""


@dataclass(frozen=True)
class Labels:
    """Person and camera of each crop.

    Attributes:
        persons: int (N,): -1 is junk or unknown; 0 is a distractor, which is a wrong answer for every query.
        cameras: int (N,): -1 is unknown.
        sequences: int (N,): number of the sequence, or of the file where no sequence is known. Queries and gallery
            share these numbers. None if they are not needed: only evaluation within one camera needs them.

    Raises:
        UsageError: the arrays are not integer vectors of one length.
    """

    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]
    sequences: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        given = {"persons": self.persons, "cameras": self.cameras, "sequences": self.sequences}
        for name, values in given.items():
            if values is None:
                continue
            if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
                raise UsageError(
                    f"{name} of dtype {values.dtype} and shape {values.shape}: expected whole numbers, one per crop",
                    parameter=name,
                )
        if len(self.persons) != len(self.cameras):
            raise UsageError(
                f"{len(self.persons)} persons and {len(self.cameras)} cameras: expected one of each per crop"
            )
        if self.sequences is not None and len(self.sequences) != len(self.persons):
            raise UsageError(
                f"{len(self.persons)} persons and {len(self.sequences)} sequences: expected one of each per crop",
                parameter="sequences",
            )

    @classmethod
    def of(cls, persons: ArrayLike, cameras: ArrayLike, sequences: ArrayLike | None = None) -> Self:
        """Labels from lists or arrays of any integer type.

        Raises:
            UsageError: as for the class.
        """
        arrays = [np.asarray(values) for values in (persons, cameras, sequences) if values is not None]
        # NumPy makes floats of an empty list.
        return cls(
            *(array.astype(np.int64) if not array.size or array.dtype.kind in "iu" else array for array in arrays)
        )

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Labels:
        """Labels of the crops that a mask, row numbers or a slice selects."""
        sequences = None if self.sequences is None else self.sequences[rows]
        return Labels(self.persons[rows], self.cameras[rows], sequences)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether person (0 included) and camera of each crop are known: bool (N,)."""
        return (self.persons > JUNK_PERSON) & (self.cameras >= 0)

    @property
    def people(self) -> int:
        """Number of different people. Junk and distractors are no people."""
        return len(np.unique(self.persons[self.persons > DISTRACTOR_PERSON]))

    def views(self, same_camera: bool) -> NDArray[np.int64]:
        """What two crops of one person must differ in to be compared: int64 (N,).

        Args:
            same_camera: False gives the cameras. True gives the sequences: only crops of the query's own sequence or
                file are left out.

        Raises:
            UsageError: ``same_camera`` is set, but the sequences are not known.
        """
        if not same_camera:
            return self.cameras
        if self.sequences is None:
            raise UsageError(
                "same_camera needs the sequence or file of each crop: expected labels with sequences; add them, or "
                "leave out all crops of the query's camera",
                parameter="same_camera",
            )
        return self.sequences

    def check_count(self, expected: int, what: str) -> None:
        """Check the number of labels.

        Args:
            expected: number of rows.
            what: name of the rows for the message, for example ``query``.

        Raises:
            UsageError: the numbers differ.
        """
        if len(self) != expected:
            raise UsageError(f"{len(self)} {what} labels for {expected} {what} rows: expected one label per row")


@dataclass(frozen=True)
class LabelNames:
    """What people and cameras are called where labels are numbers: as galleries, file names and ``match`` call them.

    Attributes:
        persons: name by number, such as ``0002`` of 2. A number without a name is its own.
        cameras: name by number, such as ``lobby`` of 4.
    """

    persons: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)

    def person(self, number: int) -> str:
        """The name of a person."""
        return self.persons.get(number, str(number))

    def camera(self, number: int) -> str:
        """The name of a camera."""
        return self.cameras.get(number, str(number))


@dataclass(frozen=True)
class LabelledCrops:
    """Descriptors and labels of one side of an evaluation: the queries, or the gallery.

    Attributes:
        descriptors: float (N, D), rows of unit length.
        labels: labels of the N crops.
        paths: the N files; empty if they are not needed.

    Raises:
        UsageError: ``descriptors`` is no matrix, or the number of labels differs.
    """

    descriptors: NDArray[np.floating]
    labels: Labels
    paths: Sequence[Path] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.descriptors.ndim != 2:
            raise UsageError(f"descriptors of shape {self.descriptors.shape}: expected (crops, D)")
        self.labels.check_count(len(self.descriptors), "descriptor")

    def __len__(self) -> int:
        return len(self.descriptors)
