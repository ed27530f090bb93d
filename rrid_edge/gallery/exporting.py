"""Exporting a gallery: its rows and descriptors in a NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import atomic_output
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore

NO_FRAME = np.iinfo(np.int64).min
"""Exported frame number of a row without one."""


def export_gallery(gallery: GalleryStore, path: Path) -> int:
    """Write the rows and descriptors of one moment of a gallery into a NumPy file (.npz).

    Its arrays have one entry per row: ``descriptors`` float32 (N, D), ``ids``, ``sources``, ``paths``, ``cameras``,
    ``times`` (UTC, ``datetime64[us]``), ``frames``, ``persons``, ``tracks``, ``labels``. An unknown text is empty, an
    unknown time is ``NaT``, an unknown frame is :data:`NO_FRAME`.

    Args:
        gallery: open.
        path: of the file; it must end in ``.npz``.

    Returns:
        Number of rows.

    Raises:
        UsageError: the name of the file has another ending.
        OutputError: the file cannot be written.
        GalleryError: a stored descriptor is damaged.
    """
    if path.suffix != ".npz":
        raise UsageError(
            f"{printable(path)}: the file name must end in .npz; rename it, for example descriptors.npz",
            parameter="output",
        )
    with gallery.moment() as moment:
        rows = moment.rows()
        vectors = moment.vectors(rows) if rows else np.empty((0, gallery.spec.dimension), np.float32)
    with atomic_output(path) as partial:
        np.savez_compressed(partial, descriptors=vectors, **_columns(rows))
        partial.chmod(0o600)  # descriptors are data about people
    return len(rows)


def _columns(rows: list[GalleryRow]) -> dict[str, NDArray[Any]]:
    texts = {
        "sources": [row.source for row in rows],
        "paths": [row.path for row in rows],
        "cameras": [row.camera for row in rows],
        "persons": [row.person for row in rows],
        "tracks": [row.track for row in rows],
        "labels": [row.label for row in rows],
    }
    return {
        "ids": np.array([row.id for row in rows], np.int64),
        "times": np.array(["NaT" if row.time is None else row.time for row in rows], "datetime64[us]"),
        "frames": np.array([NO_FRAME if row.frame is None else row.frame for row in rows], np.int64),
        **{name: np.array([printable(text or "") for text in column], np.str_) for name, column in texts.items()},
    }
