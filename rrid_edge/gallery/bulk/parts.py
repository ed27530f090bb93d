"""The parts of an input that are one task of a cluster each. Needs pyarrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rrid_edge.gallery.bulk.inputs import CropInput
from rrid_edge.gallery.bulk.tables import MTIME, PATH, SIZE

TABLE, GROUP = "table", "row_group"
"""Columns of a part that is a row group: path of the file of Parquet, and number of the group."""


def parts_of(crops: CropInput, size: int) -> tuple[list[Any], int]:
    """The parts of an input that are one task each, as tables of pyarrow, and their most rows.

    Of tables, actors read whole row groups themselves. So no reading task waits for a CPU that engines hold, and Ray
    moves no images.
    """
    if crops.tables:
        groups = crops.row_groups()
        return [pa.table({TABLE: [table], GROUP: [number]}) for table, number, _ in groups], 1
    names = list(crops.listing)
    slices = [names[start : start + size] for start in range(0, len(names), size)]
    return [_listed(crops, part) for part in slices], size


def _listed(crops: CropInput, names: Sequence[str]) -> Any:  # noqa: ANN401
    states = [crops.listing[name] for name in names]
    return pa.table(
        {
            PATH: pa.array([os.fsencode(name) for name in names], pa.binary()),
            SIZE: pa.array([size for size, _ in states], pa.int64()),
            MTIME: pa.array([mtime_ns for _, mtime_ns in states], pa.int64()),
        }
    )
