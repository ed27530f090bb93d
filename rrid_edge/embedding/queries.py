"""Queries: the image files of each person to look for, and their descriptors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import MAX_PIXELS, load_rgb, resize
from rrid_edge.crops.naming import NameFacts, name_reader
from rrid_edge.crops.reading import why_no_images
from rrid_edge.engines.base import Engine
from rrid_edge.errors import ImageError, UsageError, item_at_work, printable
from rrid_edge.file_kinds import no_such
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import step

FRAME_PX: Final = (480, 640)
"""Short and long side of the smallest usual video frame. Crops of people are at least twice as tall as wide."""
LEAST_SIDE_PX: Final = 32
"""A query that is narrower or lower shows too little of a person."""
LEAST_CONTRAST: Final = 4.0
"""Smallest standard deviation (of 255) of a colour channel; noise of a camera alone has about 2."""


@dataclass(frozen=True)
class Query:
    """One person to look for.

    Attributes:
        files: the image files, at least one.
        descriptors: float32 (files, D), rows of unit length.
        person: the person of the file names; None if they name none or several.
        camera: the camera of the file names; None if they name none or several.
        warnings: doubts about the images, one line each.
    """

    files: tuple[str, ...]
    descriptors: NDArray[np.float32]
    person: str | None = None
    camera: str | None = None
    warnings: tuple[str, ...] = ()


def query_files(paths: Sequence[Path], *, separate: bool = False, follow_links: bool = False) -> list[tuple[Path, ...]]:
    """The files of each query.

    Args:
        paths: image files of one person, or folders in which each image is a query.
        separate: make each image file a query too.
        follow_links: take links in folders to files outside of them too.

    Raises:
        ImageError: a path does not exist.
        UsageError: ``paths`` mixes files and folders, or the folders have no images.
    """
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        kind = (
            "a path with / between folders"
            if "\\" in str(missing)
            else "an image, for example a JPEG crop of one person"
        )
        raise ImageError(missing, f"{no_such(missing, 'file')}; expected {kind}")
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return [(path,) for path in paths] if separate else [tuple(paths)]
    if len(folders) != len(paths):
        raise UsageError(
            f"{printable(folders[0])}: this folder is given beside files; expected image files of one person, or "
            "folders of queries, and one gallery after them"
        )
    queries: list[tuple[Path, ...]] = [
        (file,) for folder in folders for file in list_images(folder, follow_links=follow_links)
    ]
    if not queries:
        raise UsageError(f"{printable(folders[0])}: {why_no_images(folders[0])}; give query images")
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


def embed_queries(
    engine: Engine,
    groups: Sequence[tuple[Path, ...]],
    pattern: str = "auto",
    folder: Path | None = None,
    unreadable: Callable[[ImageError], None] | None = None,
) -> list[Query]:
    """One query per group of files. The engine computes all images in one call.

    Args:
        engine: of the gallery's model.
        groups: files of each query, as :func:`query_files` returns them.
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`.
        folder: of the gallery's crops, or None. The names of queries in it are read with their folders, as those of
            its crops are.
        unreadable: receives the error of each query that cannot be decoded, which is left out. None raises the first.

    Raises:
        ImageError: a file cannot be decoded; with ``unreadable``, no query can be.
        UsageError: the pattern is unknown.
    """
    reader = name_reader(pattern)
    root = None if folder is None else folder.resolve()
    groups, images = _readable(groups, engine.spec, unreadable)
    with item_at_work(", ".join(str(file) for files in groups[:3] for file in files)):
        descriptors = engine.run(np.stack([pixels for group in images for pixels, _ in group]))
    queries, start = [], 0
    for files, group in zip(groups, images, strict=True):
        stop = start + len(files)
        names = [reader(_name(file, root)) for file in files]
        warnings = tuple(warning for _, warning in group if warning)
        queries.append(_query(files, descriptors[start:stop], names, warnings))
        start = stop
    return queries


@step("reading queries")
def _readable(
    groups: Sequence[tuple[Path, ...]], spec: ModelSpec, unreadable: Callable[[ImageError], None] | None
) -> tuple[list[tuple[Path, ...]], list[list[tuple[NDArray[np.uint8], str]]]]:
    """The queries that can be decoded: their files, and the pixels of and doubts about each file."""
    kept, images = [], []
    error: ImageError | None = None
    for files in groups:
        try:
            read = [read_query(file, spec) for file in files]
            images.append([(one.pixels, one.warning) for one in read])
            kept.append(files)
        except ImageError as refusal:
            if unreadable is None:
                raise
            error = refusal
            unreadable(refusal)
    if error is not None and not kept:
        raise error
    return kept, images


def _name(file: Path, root: Path | None) -> str:
    """A query's path as its name is read: relative to the folder of crops, or else without folders."""
    if root is not None and file.resolve().is_relative_to(root):
        return file.resolve().relative_to(root).as_posix()
    return file.name


@dataclass(frozen=True)
class QueryImage:
    """A query image that was read.

    Attributes:
        pixels: for the engine, uint8 (height, width, 3).
        warning: the doubts about it in one line, or empty.
        image: in RGB, at its own size.
    """

    pixels: NDArray[np.uint8]
    warning: str
    image: Image.Image


def read_query(
    file: str | Path, spec: ModelSpec, content: bytes | None = None, *, most_pixels: int = MAX_PIXELS
) -> QueryImage:
    """Read a query image.

    Args:
        file: the image file, or the name of ``content`` in errors.
        spec: of the model.
        content: the file's bytes, if they are in memory already.
        most_pixels: largest accepted width x height.

    Raises:
        ImageError: the file cannot be decoded.
    """
    with item_at_work(file):
        image = load_rgb(file, content, most_pixels=most_pixels)
        pixels = resize(image, spec.height_px, spec.width_px)
        doubts = image_doubts(image.width, image.height, pixels)
    warning = (
        f"{printable(file)}: {image.width} x {image.height} pixels, {', '.join(doubts)}; expected an upright crop of "
        "one person: the answer may show anybody"
    )
    return QueryImage(pixels, warning if doubts else "", image)


def image_doubts(width_px: int, height_px: int, pixels: NDArray[np.uint8]) -> list[str]:
    """Why an image may not be a crop of one person.

    Args:
        width_px: of the image.
        height_px: of the image.
        pixels: the image at any size, uint8 (height, width, 3).
    """
    short, long = sorted((width_px, height_px))
    doubts = []
    if short >= FRAME_PX[0] and long >= FRAME_PX[1] and long < 2 * short:
        doubts.append("as large as a full video frame")
    if width_px > height_px:
        doubts.append("wider than tall")
    if short < LEAST_SIDE_PX:
        doubts.append(f"under {LEAST_SIDE_PX} pixels on a side")
    planes = np.ascontiguousarray(pixels.reshape(-1, 3).T)  # over rows of three values it takes 0.9 ms instead of 0.1
    if float(planes.std(axis=1).max()) < LEAST_CONTRAST:
        doubts.append("nearly one colour")
    return doubts


def _query(
    files: tuple[Path, ...], descriptors: NDArray[np.float32], names: Sequence[NameFacts], warnings: tuple[str, ...]
) -> Query:
    persons = {name.person for name in names if name.person is not None}
    cameras = {name.camera for name in names if name.camera is not None}
    person = persons.pop() if len(persons) == 1 else None
    camera = cameras.pop() if len(cameras) == 1 else None
    return Query(tuple(str(file) for file in files), descriptors, person, camera, warnings)
