"""What a gallery is: its store, its model, what its rows tell, and what it takes on the disk."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from rrid_edge.errors import GalleryMissingError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.local.database import FILE_NAME
from rrid_edge.gallery.local.folder import has_index
from rrid_edge.gallery.opening import INDEX_FOLDER, Location, location_of, model_path, open_store
from rrid_edge.gallery.row_list import RowList, RowTotals
from rrid_edge.model.names import is_model

_CATALOGUE_FILES = (FILE_NAME, f"{FILE_NAME}-wal")


@runtime_checkable
class NumberedMoment(Protocol):
    """A moment that knows its commit: that of a gallery in a folder."""

    def commit(self) -> int:
        """Number of the commit that made this state, from 1."""
        ...


@dataclass(frozen=True)
class DiskFacts:
    """A gallery in a folder, as the disk shows it.

    Attributes:
        size_bytes: of all files of the index; those of the crops are not counted.
        changed_us: modification time of the catalogue, UTC microseconds since 1970.
    """

    size_bytes: int
    changed_us: int


@dataclass(frozen=True)
class Description:
    """One moment of a gallery.

    Attributes:
        location: folder of the index, or address.
        info: the gallery's facts.
        totals: what all rows tell.
        model: the model file that was used last, which may have been moved since; None if it is not known.
        commit: number of the last commit; None in Milvus.
        disk: size and last change; None in Milvus, whose server keeps the files.
    """

    location: Location
    info: GalleryInfo
    totals: RowTotals
    model: Path | None
    commit: int | None
    disk: DiskFacts | None


def describe_gallery(location: Location) -> Description:
    """Describe a gallery. Reads all rows, and no descriptor.

    Raises:
        GalleryError: as :func:`rrid_edge.gallery.opening.open_store`.
    """
    with open_store(location) as gallery, gallery.moment() as moment:
        info = moment.info()
        totals = RowList(moment).survey(RowTotals)
        commit = moment.commit() if isinstance(moment, NumberedMoment) else None
    disk = disk_facts(location) if isinstance(location, Path) else None
    return Description(location, info, totals, model_path(location, info.model), commit, disk)


def disk_facts(folder: Path) -> DiskFacts:
    """Size and last change of the index in a folder. Files that go meanwhile are not counted."""
    size_bytes, changed_ns = 0, 0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            facts = file.stat()
            size_bytes += facts.st_size if file.is_file() else 0
            if file.name in _CATALOGUE_FILES:
                changed_ns = max(changed_ns, facts.st_mtime_ns)
    return DiskFacts(size_bytes, changed_ns // 1000)


def gallery_of(folder: Path) -> Path:
    """The index of a folder of crops, or the folder itself if it is an index.

    Raises:
        GalleryMissingError: it holds none. The message names what the folder holds instead.
        UsageError: it holds model files.
    """
    location = location_of(folder)
    assert isinstance(location, Path)
    if has_index(location):
        return location
    models = sorted(path for path in folder.iterdir() if path.is_file() and is_model(path))
    if models:
        raise UsageError(
            f"{printable(folder)}: this is a folder of models; expected one model file, or a gallery: give one of its "
            f"files, for example {printable(models[0])}",
            parameter="model",
        )
    below = [path for path in sorted(folder.iterdir()) if path.is_dir() and has_index(path / INDEX_FOLDER)]
    remedy = (
        f"give the gallery in it: {printable(below[0])}"
        if below
        else f"make one with: rrid-edge index {printable(folder)}"
    )
    raise GalleryMissingError(
        f"{printable(folder)}: this folder is no gallery (it has no {INDEX_FOLDER}); expected a folder that was "
        f"indexed, a Milvus address, or a model file; {remedy}"
    )
