"""Exporting a gallery into a file: NumPy, Parquet or CSV."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array, write_array_header_1_0
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, item_at_work, printable
from rrid_edge.files import PRIVATE_MODE, atomic_output
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore, Moment, read_in_one_moment
from rrid_edge.gallery.export_tables import refuse_missing_pyarrow, write_csv, write_parquet
from rrid_edge.gallery.row_list import RowList, RowSelection
from rrid_edge.json_text import text_of_name
from rrid_edge.progress import step

ENDINGS = (".npz", ".parquet", ".csv")
UNKNOWN = -1
"""Stands for an unknown time or frame."""
_ATTEMPTS = 5
_BLOCK_ROWS = 4096


def export_gallery(
    store: GalleryStore,
    path: Path,
    sources: Iterable[str] | None = None,
    *,
    overwrite: bool = True,
    descriptors: bool = False,
) -> list[int]:
    """Write the rows and descriptors of one moment into a file that only this user may read.

    The ending decides the form. ``.npz`` has an array per column with one entry per row: ``descriptors`` float32
    (N, D); ``ids`` int64; ``paths`` (empty for a row without a file), ``sources``, ``cameras``, ``persons``, ``labels``
    and ``tracks`` as text (empty if unknown; bytes that are no UTF-8 as :mod:`rrid_edge.json_text` writes them);
    ``times`` (UTC microseconds since 1970) and ``frames`` int64, -1 if unknown.

    ``.parquet`` and ``.csv`` are tables; see :mod:`rrid_edge.gallery.export_tables`. Descriptors are read in blocks, so
    they need not fit the memory.

    Args:
        store: of the gallery.
        path: file to write.
        sources: only rows of these sources; None means all.
        overwrite: replace the file if it exists.
        descriptors: for ``.csv``: add a column per value of the descriptors. The other forms have them always.

    Returns:
        The ids of the rows, in their order.

    Raises:
        UsageError: another ending, the file exists, or ``descriptors`` with a form that has them always.
        MissingDependencyError: ``.parquet`` needs pyarrow, which is not installed.
        GalleryError: a descriptor is damaged. Nothing is written.
        GalleryChangedError: rows were forgotten while they were read, several times.
        OutputError: the file cannot be written.
    """
    ending = path.suffix.lower()
    _refuse_unfit(path, ending, overwrite=overwrite, descriptors=descriptors)
    wanted = None if sources is None else list(sources)
    with atomic_output(path, PRIVATE_MODE) as partial:

        def write(moment: Moment) -> list[int]:
            if ending == ".npz":
                return _write_npz(partial, moment, moment.rows(wanted), store.spec.dimension)
            rows = RowList(moment, RowSelection(sources=None if wanted is None else frozenset(wanted)))
            if ending == ".csv":
                return write_csv(partial, moment, rows, store.spec if descriptors else None)
            return write_parquet(partial, moment, rows, store.spec)

        return read_in_one_moment(store, write, _ATTEMPTS)


def _refuse_unfit(path: Path, ending: str, *, overwrite: bool, descriptors: bool) -> None:
    if ending not in ENDINGS:
        raise UsageError(
            f"{printable(path)}: the file name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; rename it, for "
            "example descriptors.npz",
            parameter="output",
        )
    if descriptors and ending != ".csv":
        raise UsageError(
            f"{printable(path)}: descriptors are always in {ending}, so asking for them has no effect; leave it out",
            parameter="descriptors",
        )
    if not overwrite and os.path.lexists(path) and not path.is_dir():
        raise UsageError(
            f"{printable(path)}: this file exists; expected a new name: give another one, or say that it is replaced",
            parameter=("output", "overwrite"),
        )
    if ending == ".parquet":
        refuse_missing_pyarrow()


def _write_npz(partial: Path, moment: Moment, rows: Sequence[GalleryRow], dimension: int) -> list[int]:
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        _write_descriptors(archive, moment, rows, dimension)
        for name, values in _columns(rows).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                write_array(stream, values, allow_pickle=False)
    return [row.id for row in rows]


def _write_descriptors(archive: zipfile.ZipFile, moment: Moment, rows: Sequence[GalleryRow], dimension: int) -> None:
    """Write the descriptors in blocks: those of a large gallery may take more memory than there is."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), dimension)}
    opened = archive.open("descriptors.npy", "w", force_zip64=True)
    with step("writing descriptors", len(rows)) as writing, opened as stream:
        write_array_header_1_0(stream, header)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            with item_at_work(f"{block[0].name} and the {len(block) - 1} crops after it"):
                stream.write(moment.vectors(block).astype("<f4", copy=False).tobytes())
            writing.advance(len(block))


def _columns(rows: Sequence[GalleryRow]) -> dict[str, NDArray[np.generic]]:
    return {
        "ids": np.array([row.id for row in rows], np.int64),
        "paths": _texts([row.path for row in rows]),
        "sources": _texts([row.source for row in rows]),
        "cameras": _texts([row.camera for row in rows]),
        "persons": _texts([row.person for row in rows]),
        "labels": _texts([row.label for row in rows]),
        "tracks": _texts([row.track for row in rows]),
        "times": _numbers([row.time for row in rows]),
        "frames": _numbers([row.frame for row in rows]),
    }


def _texts(values: Sequence[str | None]) -> NDArray[np.str_]:
    return np.array([text_of_name(value or "") for value in values], np.str_)


def _numbers(values: Sequence[int | None]) -> NDArray[np.int64]:
    return np.array([UNKNOWN if value is None else value for value in values], np.int64)
