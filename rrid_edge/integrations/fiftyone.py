"""A gallery as a dataset of FiftyOne, to look at crops, labels and descriptors."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import crop_kind
from rrid_edge.errors import MissingDependencyError
from rrid_edge.files import PRIVATE_MODE, atomic_output
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore, StoreOwner, store_of

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BATCH = 1000


def to_dataset(
    gallery: GalleryStore | StoreOwner,
    folder: str | Path | None = None,
    *,
    thumbnails: str | Path | None = None,
    name: str | None = None,
    sources: Sequence[str] | None = None,
) -> Any:  # noqa: ANN401 - a type of a package that is not a dependency
    """A FiftyOne dataset with one sample per row.

    A sample has the fields ``row_id``, ``source``, ``camera``, ``time``, ``frame_number``, ``person``, ``track``,
    ``label``, ``label_kind`` and ``descriptor``. ``label_kind`` says what the label, or else the person, means:
    ``person``, ``junk``, ``distractor`` or ``unknown``. Rows of which there is no picture are left out.

    Args:
        gallery: from :func:`rrid_edge.open_gallery`.
        folder: of the crops that rows with files name; None leaves such rows out unless they have thumbnails.
        thumbnails: folder to write the thumbnails of other rows into; None leaves these rows out.
        name: of the dataset; None lets FiftyOne choose.
        sources: only rows of these sources.

    Raises:
        MissingDependencyError: FiftyOne is not installed.
        OutputError: a thumbnail cannot be written.
    """
    fiftyone = _fiftyone()
    store = store_of(gallery)
    dataset = fiftyone.Dataset(name)
    with store.moment() as moment:
        rows = moment.rows(sources)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            pictures = _pictures(store, batch, folder, thumbnails)
            shown = [row for row in batch if row.id in pictures]
            if shown:
                pairs = zip(shown, moment.vectors(shown), strict=True)
                dataset.add_samples(
                    [fiftyone.Sample(str(pictures[row.id]), **_fields(row, vector)) for row, vector in pairs]
                )
    return dataset


def _fiftyone() -> Any:  # noqa: ANN401 - a module of a package that is not a dependency
    try:
        return importlib.import_module("fiftyone")
    except ImportError as error:
        raise MissingDependencyError(
            "a dataset of FiftyOne needs the package 'fiftyone', which is not installed: pip install fiftyone"
        ) from error


def _pictures(
    store: GalleryStore, rows: list[GalleryRow], folder: str | Path | None, thumbnails: str | Path | None
) -> dict[int, Path]:
    """The picture of each row, by id: its file, or its thumbnail, which is written."""
    found = {row.id: Path(folder, row.path).resolve() for row in rows if folder is not None and row.path is not None}
    if thumbnails is None:
        return found
    for key, data in store.thumbnails([row.id for row in rows if row.id not in found]).items():
        found[key] = Path(thumbnails, f"{key}.jpg").resolve()
        with atomic_output(found[key], PRIVATE_MODE) as partial:
            partial.write_bytes(data)
    return found


def _fields(row: GalleryRow, vector: NDArray[np.float32]) -> dict[str, Any]:
    return {
        "row_id": row.id,
        "source": row.source,
        "camera": row.camera,
        "time": None if row.time is None else _EPOCH + timedelta(microseconds=row.time),
        "frame_number": row.frame,
        "person": row.person,
        "track": row.track,
        "label": row.label,
        "label_kind": crop_kind(row.label, row.person, row.path),
        "descriptor": vector,
    }
