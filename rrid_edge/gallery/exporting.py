"""Exporting a gallery into a NumPy file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import PRIVATE_MODE, atomic_output
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore, Moment, read_in_one_moment

UNKNOWN = -1
"""Stands for an unknown time or frame."""
_ATTEMPTS = 5


def export_gallery(store: GalleryStore, path: Path, sources: Iterable[str] | None = None) -> list[int]:
    """Write the rows and descriptors of one moment into a NumPy file that only this user may read.

    The arrays have one entry per row: ``descriptors`` float32 (N, D); ``ids`` int64; ``paths`` (empty for a row without
    a file), ``sources``, ``cameras``, ``persons``, ``labels`` and ``tracks`` as text (empty if unknown); ``times``
    (UTC microseconds since 1970) and ``frames`` int64, -1 if unknown.

    Args:
        store: of the gallery.
        path: file to write, ending in ``.npz``.
        sources: only rows of these sources; None means all.

    Returns:
        The ids of the rows, in their order.

    Raises:
        UsageError: the file name does not end in ``.npz``.
        GalleryError: a descriptor is damaged. Nothing is written.
        GalleryChangedError: rows were forgotten while they were read, several times.
        OutputError: the file cannot be written.
    """
    if path.suffix != ".npz":
        raise UsageError(
            f"{printable(path)}: the file name must end in .npz; rename it, for example descriptors.npz",
            parameter="output",
        )
    wanted = None if sources is None else list(sources)

    def read(moment: Moment) -> tuple[list[GalleryRow], NDArray[np.float32]]:
        rows = moment.rows(wanted)
        return rows, moment.vectors(rows) if rows else np.empty((0, store.spec.dimension), np.float32)

    rows, vectors = read_in_one_moment(store, read, _ATTEMPTS)
    with atomic_output(path, PRIVATE_MODE) as partial:
        np.savez_compressed(
            partial,
            descriptors=vectors,
            ids=np.array([row.id for row in rows], np.int64),
            paths=_texts([row.path for row in rows]),
            sources=_texts([row.source for row in rows]),
            cameras=_texts([row.camera for row in rows]),
            persons=_texts([row.person for row in rows]),
            labels=_texts([row.label for row in rows]),
            tracks=_texts([row.track for row in rows]),
            times=_numbers([row.time for row in rows]),
            frames=_numbers([row.frame for row in rows]),
        )
    return [row.id for row in rows]


def _texts(values: Sequence[str | None]) -> NDArray[np.str_]:
    return np.array([printable(value or "") for value in values], np.str_)


def _numbers(values: Sequence[int | None]) -> NDArray[np.int64]:
    return np.array([UNKNOWN if value is None else value for value in values], np.int64)
