"""Queries: the image files of each person to look for, and their descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import NameFacts, name_reader
from rrid_edge.engines.base import Engine
from rrid_edge.errors import ImageError, UsageError, printable


@dataclass(frozen=True)
class Query:
    """One person to look for.

    Attributes:
        files: the image files, at least one.
        descriptors: float32 (files, D), rows of unit length.
        person: the person of the file names; None if they name none or several.
        camera: the camera of the file names; None if they name none or several.
    """

    files: tuple[str, ...]
    descriptors: NDArray[np.float32]
    person: str | None = None
    camera: int | None = None


def query_files(paths: Sequence[Path], *, separate: bool = False) -> list[tuple[Path, ...]]:
    """The files of each query.

    Args:
        paths: image files of one person, or folders in which each image is a query.
        separate: make each image file a query too.

    Raises:
        ImageError: a path does not exist.
        UsageError: ``paths`` mixes files and folders, or the folders have no images.
    """
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ImageError(missing, "no such file; expected an image, for example a JPEG crop of one person")
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return [(path,) for path in paths] if separate else [tuple(paths)]
    if len(folders) != len(paths):
        raise UsageError(
            f"the queries are {len(paths) - len(folders)} files and {len(folders)} folders: give image files of one "
            "person, or folders of queries"
        )
    queries: list[tuple[Path, ...]] = [(file,) for folder in folders for file in list_images(folder)]
    if not queries:
        raise UsageError(f"{printable(folders[0])}: no images in it; give query images")
    return queries


def names_within(groups: Sequence[tuple[Path, ...]], folder: Path) -> frozenset[str]:
    """Paths of the query files that lie in ``folder``, as its gallery names them.

    Args:
        groups: files of each query, as :func:`query_files` returns them.
        folder: of crops.
    """
    root = folder.resolve()
    files = [file.resolve() for group in groups for file in group]
    return frozenset(file.relative_to(root).as_posix() for file in files if file.is_relative_to(root))


def embed_queries(engine: Engine, groups: Sequence[tuple[Path, ...]], pattern: str = "auto") -> list[Query]:
    """One query per group of files. The engine computes all images in one call.

    Args:
        engine: of the gallery's model.
        groups: files of each query, as :func:`query_files` returns them.
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`.

    Raises:
        ImageError: a file cannot be decoded.
        UsageError: the pattern is unknown.
    """
    reader = name_reader(pattern)
    height, width = engine.spec.height_px, engine.spec.width_px
    descriptors = engine.run(np.stack([read_image(file, height, width) for files in groups for file in files]))
    queries, start = [], 0
    for files in groups:
        stop = start + len(files)
        queries.append(_query(files, descriptors[start:stop], [reader(file.name) for file in files]))
        start = stop
    return queries


def _query(files: tuple[Path, ...], descriptors: NDArray[np.float32], names: Sequence[NameFacts]) -> Query:
    persons = {name.person for name in names if name.person is not None}
    cameras = {name.camera for name in names if name.camera is not None}
    person = persons.pop() if len(persons) == 1 else None
    camera = cameras.pop() if len(cameras) == 1 else None
    return Query(tuple(str(file) for file in files), descriptors, person, camera)
