"""Person and camera of each crop: the labels that rankings and thresholds are evaluated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from rrid_edge.errors import UsageError

JUNK_PERSON = -1
"""Label of crops that are neither right nor wrong answers."""


@dataclass(frozen=True)
class Labels:
    """Person and camera of each crop.

    Attributes:
        persons: int (N,): -1 is junk or unknown; 0 is a distractor, which is a wrong answer for every query.
        cameras: int (N,): -1 is unknown.

    Raises:
        UsageError: the arrays are not integer vectors of one length.
    """

    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, values in (("persons", self.persons), ("cameras", self.cameras)):
            if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
                raise UsageError(
                    f"{name} of dtype {values.dtype} and shape {values.shape}: expected whole numbers, one per crop",
                    parameter=name,
                )
        if len(self.persons) != len(self.cameras):
            raise UsageError(
                f"{len(self.persons)} persons and {len(self.cameras)} cameras: expected one of each per crop"
            )

    @classmethod
    def of(cls, persons: ArrayLike, cameras: ArrayLike) -> Self:
        """Labels from lists or arrays of any integer type.

        Raises:
            UsageError: as for the class.
        """
        arrays = (np.asarray(persons), np.asarray(cameras))
        # NumPy makes floats of an empty list.
        return cls(
            *(array.astype(np.int64) if not array.size or array.dtype.kind in "iu" else array for array in arrays)
        )

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Labels:
        """Labels of the crops that a mask, row numbers or a slice selects."""
        return Labels(self.persons[rows], self.cameras[rows])

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
