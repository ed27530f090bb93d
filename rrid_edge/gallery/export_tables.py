"""Galleries as tables: Parquet for programs, CSV for spreadsheets. Rows and descriptors are read in blocks.

Both have the columns ``id`` (int64), ``path``, ``source``, ``camera``, ``person`` (as the file name writes it),
``label`` (as a user confirmed it), ``track``, ``time`` and ``frame`` (int64). Texts with bytes that are no UTF-8 are
written as :mod:`rrid_edge.json_text` says.

In Parquet, what is unknown is null, ``time`` is a timestamp in UTC with microseconds, and ``descriptor`` is a list of D
float32. The file's metadata name the model: ``rrid-edge.fingerprint`` and ``rrid-edge.dimension``.

In CSV, what is unknown is empty, ``time`` is ISO 8601, and no text is a formula; see
:func:`rrid_edge.gallery.spreadsheet.cell`. Descriptors are in it only on demand, as the columns ``d0`` to ``dN``.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.times import format_time
from rrid_edge.errors import item_at_work
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.row_list import RowList
from rrid_edge.gallery.spreadsheet import cell
from rrid_edge.json_text import text_of_name
from rrid_edge.machine.advice import missing_package
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import step

TEXTS = ("path", "source", "camera", "person", "label", "track")
COLUMNS = ("id", *TEXTS, "time", "frame")


def refuse_missing_pyarrow() -> None:
    """Refuse Parquet where pyarrow is not installed.

    Raises:
        MissingDependencyError: it is not.
    """
    try:
        importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "pyarrow", "parquet", "writing Parquet") from error


@step("writing the table")
def write_parquet(file: Path, moment: Moment, rows: RowList, spec: ModelSpec) -> list[int]:
    """Write rows and descriptors as Parquet; returns the ids of the rows. See this module for the columns.

    Raises:
        GalleryChangedError: a row was forgotten meanwhile.
        GalleryError: a descriptor is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        pa.field("id", pa.int64(), nullable=False),
        *(pa.field(name, pa.string()) for name in TEXTS),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("frame", pa.int64()),
        pa.field(
            "descriptor", pa.list_(pa.field("item", pa.float32(), nullable=False), spec.dimension), nullable=False
        ),
    ]
    facts = {"rrid-edge.fingerprint": spec.fingerprint, "rrid-edge.dimension": str(spec.dimension)}
    schema = pa.schema(fields, metadata=facts)
    ids: list[int] = []
    with pq.ParquetWriter(file, schema, use_dictionary=list(TEXTS[1:])) as writer:
        for block, vectors in _with_vectors(moment, rows):
            columns: list[Any] = [
                pa.array([row.id for row in block], pa.int64()),
                *(pa.array([_text(getattr(row, name)) for row in block], pa.string()) for name in TEXTS),
                pa.array([row.time for row in block], pa.int64()).cast(fields[-3].type),
                pa.array([row.frame for row in block], pa.int64()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=fields[-1].type),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            ids += [row.id for row in block]
    return ids


@step("writing the table")
def write_csv(file: Path, moment: Moment, rows: RowList, spec: ModelSpec | None) -> list[int]:
    """Write rows as CSV (UTF-8, RFC 4180); returns the ids of the rows. See this module for the columns.

    Args:
        file: to write.
        moment: of the rows.
        rows: to write.
        spec: of the gallery's model, to write the descriptors too; None leaves them out.

    Raises:
        GalleryChangedError: a row was forgotten meanwhile.
        GalleryError: a descriptor is damaged.
    """
    ids: list[int] = []
    with file.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow([*COLUMNS, *(f"d{index}" for index in range(spec.dimension if spec else 0))])
        if spec is None:
            for listed in rows.blocks():
                lines.writerows(map(_cells, listed))
                ids += [row.id for row in listed]
            return ids
        for block, vectors in _with_vectors(moment, rows):
            # As text, a float32 has the fewest digits that give it back.
            lines.writerows([*_cells(row), *values] for row, values in zip(block, vectors.astype(str), strict=True))
            ids += [row.id for row in block]
    return ids


def _with_vectors(moment: Moment, rows: RowList) -> Iterator[tuple[Sequence[GalleryRow], NDArray[np.float32]]]:
    for block in rows.blocks():
        with item_at_work(f"{block[0].name} and the {len(block) - 1} crops after it"):
            vectors = moment.vectors(block)
        yield block, vectors


def _text(value: str | None) -> str | None:
    return None if value is None else text_of_name(value)


def _cells(row: GalleryRow) -> list[int | str]:
    when = None if row.time is None else format_time(row.time)
    texts = (getattr(row, name) for name in TEXTS)
    return [cell(value) for value in (row.id, *texts, when, row.frame)]
