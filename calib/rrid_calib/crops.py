"""Which crops a model is calibrated with: the training split alone, spread over cameras and people, the same every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import name_reader
from rrid_edge.errors import DatasetError, ImageError, UsageError, printable
from rrid_train.data.layout import is_dataset, load_dataset

TEST_FOLDERS = ("query", "gallery", "test", "bounding_box_test")
"""Folders of these names hold what accuracy is measured on."""


@dataclass(frozen=True)
class Crop:
    """One crop that may be calibrated with.

    Attributes:
        path: the file.
        name: its path within the folder, with ``/``.
        person: identity as far as known, else "".
        camera: camera, or -1.
    """

    path: Path
    name: str
    person: str
    camera: int


@dataclass(frozen=True)
class CalibrationImages:
    """Decoded calibration crops.

    Attributes:
        pixels: uint8 (N, height, width, 3).
        crops: where they come from.
        sha256: of the N files, hex.
    """

    pixels: NDArray[np.uint8]
    crops: tuple[Crop, ...]
    sha256: tuple[str, ...]


def find_crops(folder: Path) -> list[Crop]:
    """All crops of ``folder`` that may be calibrated with.

    A dataset's folder gives its training split. Any other folder gives all of its images, unless one of them belongs to
    a test split, by the name of its folder or by the lists of the dataset that it lies in.

    Raises:
        UsageError: no such folder, no images, or crops of a test split.
        DatasetError: the dataset contradicts itself.
    """
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)}: no such folder; give a folder of training crops, or a dataset's folder")
    if is_dataset(folder):
        samples = load_dataset(folder, combine_trainval=True).train
        return [Crop(sample.path, _within(sample.path, folder), str(sample.pid), sample.camera) for sample in samples]
    paths = list_images(folder)
    if not paths:
        raise UsageError(f"{printable(folder)}: no images; give a folder of training crops, or a dataset's folder")
    _refuse_test_crops(folder, paths)
    read = name_reader("auto")
    crops = []
    for path in paths:
        facts = read(_within(path, folder))
        crops.append(
            Crop(path, _within(path, folder), facts.person or "", -1 if facts.camera is None else facts.camera)
        )
    return crops


def spread(crops: Sequence[Crop], count: int, seed: int) -> list[Crop]:
    """``count`` crops at most: cameras in turn, in each camera people in turn, drawn with ``seed``."""
    generator = np.random.default_rng([seed, 29])
    by_camera: dict[int, dict[str, list[Crop]]] = defaultdict(lambda: defaultdict(list))
    for index in generator.permutation(len(crops)).tolist():
        by_camera[crops[index].camera][crops[index].person].append(crops[index])
    queues = {camera: _in_turn(list(people.values())) for camera, people in sorted(by_camera.items())}
    return _in_turn(list(queues.values()))[:count]


def read_crops(crops: Sequence[Crop], height_px: int, width_px: int) -> CalibrationImages:
    """Decode calibration crops.

    Raises:
        UsageError: one of them cannot be read: what a model is calibrated with must be known exactly.
    """
    pixels, digests = [], []
    for crop in crops:
        try:
            pixels.append(read_image(crop.path, height_px, width_px))
        except ImageError as error:
            raise UsageError(
                f"calibration stops at an unreadable crop: {error.message}; remove or mend it, nothing was written"
            ) from error
        digests.append(hashlib.sha256(crop.path.read_bytes()).hexdigest())
    return CalibrationImages(np.stack(pixels), tuple(crops), tuple(digests))


def _in_turn(queues: list[list[Crop]]) -> list[Crop]:
    """The first of every queue, then the second of every queue, and so on."""
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _refuse_test_crops(folder: Path, paths: Sequence[Path]) -> None:
    by_folder = [
        path for path in paths if {folder.resolve().name, *Path(_within(path, folder)).parts[:-1]} & {*TEST_FOLDERS}
    ]
    listed = _listed_for_test(folder)
    refused = by_folder or [path for path in paths if path.name in listed]
    if refused:
        raise UsageError(
            f"{printable(folder)}: {len(refused)} of {len(paths)} crops belong to a test split, the first is "
            f"{printable(_within(refused[0], folder))}; calibrate with training crops only: give the dataset's folder, "
            "whose training split is taken"
        )


def _listed_for_test(folder: Path) -> set[str]:
    """Names of the test crops of the dataset that ``folder`` lies in, if it lies in one."""
    for parent in folder.resolve().parents[:2]:
        try:
            dataset = load_dataset(parent, combine_trainval=True) if is_dataset(parent) else None
        except DatasetError:
            continue
        if dataset is not None:
            return {sample.path.name for sample in (*dataset.query, *dataset.gallery)}
    return set()
