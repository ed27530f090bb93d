"""Choose and read calibration crops: from the training split only, and with a seed.

Ranges are taken from crops spread evenly over cameras and people. The result is checked on all crops of other people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import name_reader, read_labels
from rrid_edge.errors import ArtefactError, DatasetError, ImageError, UsageError, printable, unforeseen
from rrid_edge.file_kinds import no_such
from rrid_edge.files import sha256_of_file
from rrid_edge.progress import step
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON, Labels
from rrid_edge.ranking.sampling import sample_people
from rrid_train.data.layout import is_dataset, load_dataset

TEST_FOLDERS = ("query", "gallery", "test", "bounding_box_test")
"""Names of folders that hold test crops. Accuracy is measured on these, so they are never calibrated with."""


@dataclass(frozen=True)
class Crop:
    """A crop to calibrate with.

    Attributes:
        path: the file.
        name: its path relative to the folder, with ``/``.
        person: the person, or "" if unknown.
        camera: name of the camera, or "" if unknown.
        label: number of the person, and of the camera, as in :class:`~rrid_edge.ranking.labels.Labels`.
    """

    path: Path
    name: str
    person: str
    camera: str
    label: tuple[int, int] = (-1, -1)


@dataclass(frozen=True)
class CalibrationImages:
    """Decoded calibration crops.

    Attributes:
        pixels: uint8 (N, height, width, 3), RGB.
        crops: the N crops that were decoded.
        sha256: sha256 of the N files, hex.
        left_out: names of crops that could not be read, each with the reason.
    """

    pixels: NDArray[np.uint8]
    crops: tuple[Crop, ...]
    sha256: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> Labels:
        """Labels of the N crops."""
        return labels_of(self.crops)

    def followed_by(self, more: CalibrationImages) -> CalibrationImages:
        """These images, then others."""
        return CalibrationImages(
            np.concatenate([self.pixels, more.pixels]),
            self.crops + more.crops,
            self.sha256 + more.sha256,
            self.left_out + more.left_out,
        )

    def split(self, count: int) -> tuple[CalibrationImages, CalibrationImages]:
        """All but the last ``count`` images, and the last ``count`` images."""
        at = len(self.crops) - count
        return (
            CalibrationImages(self.pixels[:at], self.crops[:at], self.sha256[:at]),
            CalibrationImages(self.pixels[at:], self.crops[at:], self.sha256[at:]),
        )


def find_crops(folder: Path, *, follow_links: bool = False) -> list[Crop]:
    """List the crops of ``folder`` to calibrate with.

    A dataset's folder gives its training split. Any other folder gives all its images, but only if none of them is a
    test crop. Test crops are in a folder of :data:`TEST_FOLDERS`, or in test lists of the dataset around ``folder``.

    Args:
        folder: of a dataset or of crops.
        follow_links: take links to files outside a folder of crops too.

    Raises:
        UsageError: the folder does not exist, has no images, or contains test crops.
        DatasetError: the dataset contradicts itself.
    """
    if not folder.is_dir():
        problem = "this is a file, not a folder" if folder.exists() else no_such(folder, "folder")
        raise UsageError(f"{printable(folder)}: {problem}; give a folder of training crops, or a dataset's folder")
    if is_dataset(folder):
        # People to train on are numbered from 0 here, but label 0 is a distractor.
        return [
            Crop(
                sample.path,
                _relative_name(sample.path, folder),
                str(sample.person),
                str(sample.camera),
                (sample.person + 1, sample.camera),
            )
            for sample in load_dataset(folder, num_val=0).train
        ]
    paths = list_images(folder, follow_links=follow_links)
    if not paths:
        raise UsageError(f"{printable(folder)}: no images; give a folder of training crops, or a dataset's folder")
    _refuse_test_crops(folder, paths)
    read = name_reader("auto")
    names = [_relative_name(path, folder) for path in paths]
    facts = [read(name) for name in names]
    persons, cameras = read_labels(names)
    return [
        Crop(path, name, fact.person or "", fact.camera or "", (person, camera))
        for path, name, fact, person, camera in zip(
            paths, names, facts, persons.tolist(), cameras.tolist(), strict=True
        )
    ]


def labels_of(crops: Sequence[Crop]) -> Labels:
    """Labels of crops."""
    return Labels.of([crop.label[0] for crop in crops], [crop.label[1] for crop in crops])


def choose_check(crops: Sequence[Crop], count: int, seed: int) -> tuple[list[Crop], list[Crop]]:
    """Keep all crops of some people aside, to measure accuracy on.

    Args:
        crops: all crops.
        count: crops to keep aside; see :func:`rrid_edge.ranking.sampling.sample_people`.
        seed: seed of the choice.

    Returns:
        The crops kept aside, and all others in the order in which calibration takes them: those of other people first,
        each part drawn evenly by :func:`sample_crops`.
    """
    rows = sample_people(labels_of(crops), count, seed=seed).rows
    kept = set(rows.tolist())
    people = {crops[row].label[0] for row in kept} - {JUNK_PERSON, DISTRACTOR_PERSON}
    others = [crop for row, crop in enumerate(crops) if row not in kept]
    apart = [crop for crop in others if crop.label[0] not in people]
    same = [crop for crop in others if crop.label[0] in people]
    drawn = [*sample_crops(apart, len(apart), seed), *sample_crops(same, len(same), seed)]
    return [crops[row] for row in rows.tolist()], drawn


def sample_crops(crops: Sequence[Crop], count: int, seed: int) -> list[Crop]:
    """Draw up to ``count`` crops with ``seed``, evenly over cameras, and over the people of each camera."""
    generator = np.random.default_rng([seed, 29])
    by_camera: dict[str, dict[str, list[Crop]]] = defaultdict(lambda: defaultdict(list))
    for index in generator.permutation(len(crops)).tolist():
        by_camera[crops[index].camera][crops[index].person].append(crops[index])
    # Cameras that are numbers in the order of the numbers, so that a draw does not depend on how names are sorted.
    cameras = sorted(by_camera, key=lambda camera: (not camera.isdecimal(), len(camera), camera))
    return _interleaved([_interleaved(list(by_camera[camera].values())) for camera in cameras])[:count]


def read_crops(crops: Sequence[Crop], height_px: int, width_px: int, *, count: int | None = None) -> CalibrationImages:
    """Decode calibration crops. One that cannot be read is left out, and a later one takes its place.

    Args:
        crops: in the order in which they are taken.
        height_px: rows of the decoded images.
        width_px: their columns.
        count: images wanted; None means all.
    """
    taken: list[Crop] = []
    pixels, digests, left_out = [], [], []
    with step("reading crops", len(crops) if count is None else min(count, len(crops))) as reading:
        for crop in crops:
            if len(taken) == count:
                break
            try:
                image = read_image(crop.path, height_px, width_px)
                digest = sha256_of_file(crop.path)
            except ImageError as error:
                left_out.append((crop.name, error.reason))
            except Exception as error:  # nobody foresaw it: it costs this crop only
                left_out.append((crop.name, unforeseen(error)))
            else:
                pixels.append(image)
                taken.append(crop)
                digests.append(digest)
                reading.advance(1)
    stacked = np.stack(pixels) if pixels else np.empty((0, height_px, width_px, 3), np.uint8)
    return CalibrationImages(stacked, tuple(taken), tuple(digests), tuple(left_out))


def _interleaved(queues: list[list[Crop]]) -> list[Crop]:
    """Take the first of each queue, then the second of each queue, and so on."""
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[position] for position in range(longest) for queue in queues if position < len(queue)]


def _relative_name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _refuse_test_crops(folder: Path, paths: Sequence[Path]) -> None:
    by_folder = [
        path
        for path in paths
        if {folder.resolve().name, *Path(_relative_name(path, folder)).parts[:-1]} & {*TEST_FOLDERS}
    ]
    listed = _listed_test_crops(folder)
    refused = by_folder or [path for path in paths if path.name in listed]
    if refused:
        raise UsageError(
            f"{printable(folder)}: {len(refused)} of {len(paths)} crops belong to a test split, the first is "
            f"{printable(_relative_name(refused[0], folder))}; calibrate with training crops only: give the dataset's "
            "folder to use its training split"
        )


def _listed_test_crops(folder: Path) -> set[str]:
    """File names of the test crops of the dataset around ``folder``; empty if there is none."""
    for parent in folder.resolve().parents[:2]:
        try:
            dataset = load_dataset(parent, num_val=0) if is_dataset(parent) else None
        except (ArtefactError, DatasetError):  # another program's meta.json
            continue
        if dataset is not None:
            return {sample.path.name for sample in (*dataset.query, *dataset.gallery)}
    return set()
