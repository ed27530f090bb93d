"""Queries: which files show which person, and their descriptors."""

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
        person: the person where the file names that tell one agree.
        camera: the camera where the file names that tell one agree.
    """

    files: tuple[str, ...]
    descriptors: NDArray[np.float32]
    person: str | None = None
    camera: int | None = None


def query_files(paths: Sequence[Path], *, apart: bool = False) -> list[tuple[Path, ...]]:
    """The files of every person to look for.

    Args:
        paths: image files of one person, or folders in which every image is a query of its own.
        apart: every image file is a query of its own too.

    Raises:
        ImageError: a path that does not exist.
        UsageError: files and folders together, or folders without images.
    """
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ImageError(missing, "no such file; expected an image, for example a JPEG crop of one person")
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return [(path,) for path in paths] if apart else [tuple(paths)]
    if len(folders) != len(paths):
        raise UsageError("the queries are files and folders: give image files of one person, or folders of queries")
    files: list[tuple[Path, ...]] = [(file,) for folder in folders for file in list_images(folder)]
    if not files:
        raise UsageError(f"{printable(folders[0])}: no images in it; give query images")
    return files


def names_within(groups: Sequence[tuple[Path, ...]], folder: Path) -> frozenset[str]:
    """Names of those query files that are crops of a folder, as its gallery names them: a file always finds itself."""
    root = folder.resolve()
    files = [file.resolve() for files in groups for file in files]
    return frozenset(file.relative_to(root).as_posix() for file in files if file.is_relative_to(root))


def embed_queries(engine: Engine, groups: Sequence[tuple[Path, ...]], pattern: str = "auto") -> list[Query]:
    """One query for each group of files; all images go through the engine together.

    Args:
        engine: of the gallery's model.
        groups: files of every person, as :func:`query_files` returns them.
        pattern: what names tell; see :func:`rrid_edge.crops.naming.name_reader`.

    Raises:
        ImageError: a file that cannot be decoded.
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


def _query(files: tuple[Path, ...], descriptors: NDArray[np.float32], facts: Sequence[NameFacts]) -> Query:
    persons = {fact.person for fact in facts if fact.person is not None}
    cameras = {fact.camera for fact in facts if fact.camera is not None}
    person = persons.pop() if len(persons) == 1 else None
    camera = cameras.pop() if len(cameras) == 1 else None
    return Query(tuple(str(file) for file in files), descriptors, person, camera)
