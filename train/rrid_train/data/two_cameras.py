"""Datasets of two cameras: VIPeR, PRID 2011 and CUHK01. Half of the people are drawn for testing, ten times.

* VIPeR (Gray et al., PETS 2007): ``cam_a/000_45.bmp`` and ``cam_b/000_90.bmp``, person and angle.
* PRID 2011 (Hirzer et al., SCIA 2011): ``single_shot/cam_a/person_0001.png``, or with many images
  ``multi_shot/cam_a/person_0001/0001.png``. Only the first 200 people are in both cameras; person 201 of one camera is
  another one than person 201 of the other.
* CUHK01 (Li et al., ACCV 2012): ``0001001.png``, four digits of person and three of image. Images 1 and 2 are from the
  first camera, 3 and 4 from the second.

Queries are from the first camera, the gallery from the second. People of the second camera only are distractors. The
draws are not those of published results, which mostly draw for themselves as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from rrid_edge.crops.folder import ImageFiles
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.listed import images_below
from rrid_train.data.original import MOST_PERSON_DIGITS, Original, OriginalSplit, remarks_of, remarks_on_others
from rrid_train.data.samples import Sample

SPLITS = 10
CAMERA_FOLDERS = ("cam_a", "cam_b")
_PRID_FOLDERS = {"single": "single_shot", "multi": "multi_shot"}
_PRID_IN_BOTH = 200
_VIPER = re.compile(r"(?P<person>\d+)_\d+\.\w+", re.ASCII)
_PRID_SINGLE = re.compile(r"person_(?P<person>\d+)\.\w+", re.ASCII)
_PRID_MULTI = re.compile(r"person_(?P<person>\d+)/\d+\.\w+", re.ASCII)
_CUHK01 = re.compile(r"(?P<person>\d{4})00(?P<image>[1-4])\.\w+", re.ASCII)
_Images = Mapping[int, list[Sample]]
"""Images of one camera by the dataset's number of the person."""


def is_viper(root: Path) -> bool:
    """Whether ``root`` or ``root/VIPeR`` has VIPeR's form."""
    folder = _with_cameras(root, "VIPeR")
    return folder is not None and not _has_prid_names(folder)


def is_prid(root: Path) -> bool:
    """Whether ``root`` has PRID 2011's form: with ``single_shot`` or ``multi_shot``, or one of the two itself."""
    folder = _with_cameras(root, *_PRID_FOLDERS.values())
    return folder is not None and (folder != root or _has_prid_names(folder))


def read_viper(root: Path, *, seed: int = 0, follow_links: bool = False) -> Original:
    """Read VIPeR.

    Args:
        root: folder with ``cam_a`` and ``cam_b``, or the folder above it.
        seed: seed of the draws of test people.
        follow_links: allow links that lead out of ``root``.

    Raises:
        DatasetError: a folder is missing, a file has another name, a link leads out, or there are too few people.
    """
    folder = _with_cameras(root, "VIPeR")
    if folder is None:
        raise DatasetError(f"{printable(root)}: no folders cam_a and cam_b in it; expected the folder of VIPeR")
    found = [images_below(root, folder / name, follow_links=follow_links) for name in CAMERA_FOLDERS]
    cameras = [
        _images(folder / name, images, number, _person(_VIPER, "<person>_<angle>"))
        for number, (name, images) in enumerate(zip(CAMERA_FOLDERS, found, strict=True), start=1)
    ]
    return _drawn("viper", root, cameras, None, seed, _remarks(root, folder, found))


def read_prid(root: Path, images: str = "single", *, seed: int = 0, follow_links: bool = False) -> Original:
    """Read PRID 2011.

    Args:
        root: folder with ``single_shot`` and ``multi_shot``, or one of these two.
        images: ``single`` (one image per person and camera) or ``multi``. It decides only if ``root`` has both.
        seed: seed of the draws of test people.
        follow_links: allow links that lead out of ``root``.

    Raises:
        UsageError: ``images`` is unknown.
        DatasetError: as for :func:`read_viper`.
    """
    if images not in _PRID_FOLDERS:
        raise UsageError(f"images {images!r} of PRID 2011 are unknown: expected single or multi", parameter="images")
    wanted = _PRID_FOLDERS[images]
    folder = _with_cameras(root, wanted, *(name for name in _PRID_FOLDERS.values() if name != wanted))
    if folder is None:
        raise DatasetError(
            f"{printable(root)}: no single_shot or multi_shot with cam_a and cam_b in it; expected the folder of "
            "PRID 2011"
        )
    found = [images_below(root, folder / name, follow_links=follow_links) for name in CAMERA_FOLDERS]
    multi = any(path.parent != folder / CAMERA_FOLDERS[0] for path in found[0].paths)
    form = _person(*((_PRID_MULTI, "person_<person>/<number>") if multi else (_PRID_SINGLE, "person_<person>")))
    cameras = [
        _images(folder / name, each, number, form, by_folder=multi)
        for number, (name, each) in enumerate(zip(CAMERA_FOLDERS, found, strict=True), start=1)
    ]
    name = f"prid2011-{'multi' if multi else 'single'}"
    return _drawn(name, root, cameras, _PRID_IN_BOTH, seed, _remarks(root, folder, found))


def read_cuhk01(root: Path, *, seed: int = 0, follow_links: bool = False) -> Original:
    """Read CUHK01.

    Args:
        root: folder of the images, or the folder above ``campus``.
        seed: seed of the draws of test people.
        follow_links: allow links that lead out of ``root``.

    Raises:
        DatasetError: as for :func:`read_viper`.
    """
    folder = root / "campus" if (root / "campus").is_dir() else root
    found = images_below(root, folder, follow_links=follow_links)
    images = _images(folder, found, 0, _person(_CUHK01, "<person 4 digits><image 001 to 004>"))
    cameras: list[dict[int, list[Sample]]] = [{}, {}]
    for person, samples in images.items():
        for sample in samples:
            camera = 1 if sample.path.name[6] in "12" else 2
            cameras[camera - 1].setdefault(person, []).append(Sample(sample.path, person, camera))
    return _drawn("cuhk01", root, cameras, None, seed, remarks_of([found]))


def _with_cameras(root: Path, *names: str) -> Path | None:
    """The first of ``root`` and its folders ``names`` that holds the folders of both cameras."""
    candidates = (root, *(root / name for name in names))
    return next((folder for folder in candidates if all((folder / camera).is_dir() for camera in CAMERA_FOLDERS)), None)


def _remarks(root: Path, folder: Path, found: Iterable[ImageFiles]) -> tuple[str, ...]:
    """What was left out, with images in other folders than the two cameras'."""
    cameras = [folder / name for name in CAMERA_FOLDERS]
    others = remarks_on_others(folder, cameras) if folder == root else remarks_on_others(root, [folder])
    return (*remarks_of(found), *others)


def _has_prid_names(folder: Path) -> bool:
    return any(path.name.startswith("person_") for path in (folder / CAMERA_FOLDERS[0]).iterdir())


def _person(form: re.Pattern[str], shown: str) -> Callable[[str], int]:
    def person(name: str) -> int:
        found = form.fullmatch(name)
        if found is None or len(found["person"].lstrip("0")) > MOST_PERSON_DIGITS:
            raise ValueError(f"is not named {shown}")
        return int(found["person"])

    return person


def _images(
    folder: Path, found: ImageFiles, camera: int, person_of: Callable[[str], int], *, by_folder: bool = False
) -> _Images:
    """Images of a camera's folder by person. With ``by_folder``, the images of one folder are a sequence."""
    images: dict[int, list[Sample]] = {}
    for path in found.paths:
        below = path.relative_to(folder)
        try:
            person = person_of(below.as_posix())
        except ValueError as error:
            raise DatasetError(
                f"{printable(folder)}: {printable(below)} {error}; copy the dataset again, or remove other files"
            ) from error
        sequence = printable(below.parent) if by_folder else ""
        images.setdefault(person, []).append(Sample(path, person, camera, sequence))
    if not images:
        raise DatasetError(f"{printable(folder)}: no images in it; copy the dataset again")
    return images


def _drawn(
    name: str, root: Path, cameras: Iterable[_Images], in_both: int | None, seed: int, remarks: tuple[str, ...]
) -> Original:
    """Draw the splits.

    Args:
        name: name of the dataset.
        root: folder of the original.
        cameras: images of the first and of the second camera.
        in_both: highest number of a person who can be in both cameras; None if each number is one person.
        seed: seed of the draws.
        remarks: what was left out.
    """
    first, second = cameras
    both = sorted(person for person in first.keys() & second.keys() if in_both is None or person <= in_both)
    if len(both) < 4:
        raise DatasetError(
            f"{printable(root)}: {len(both)} people are in both cameras; expected at least 4: copy the dataset again"
        )
    # Person 0 is a distractor, so numbers start at 1 as in the dataset, or one higher.
    shift = 1 if both[0] == 0 else 0

    def of(images: _Images, persons: Iterable[int]) -> tuple[Sample, ...]:
        return tuple(
            Sample(sample.path, person + shift, sample.camera, sample.sequence)
            for person in persons
            for sample in images[person]
        )

    others = [person for person in second if person not in set(both)]
    distractors = tuple(Sample(sample.path, 0, sample.camera) for person in others for sample in second[person])
    alone = sum(len(images) for person, images in first.items() if person not in set(both))
    splits = []
    for number in range(SPLITS):
        order = np.random.default_rng([seed, 23, number]).permutation(both).tolist()
        train, test = sorted(order[: len(both) // 2]), sorted(order[len(both) // 2 :])
        training = sorted(of(first, train) + of(second, train), key=lambda sample: (sample.person, sample.camera))
        splits.append(OriginalSplit(tuple(training), of(first, test), of(second, test) + distractors))
    left_out = (f"left out: {alone} images of people who are in the first camera only",) if alone else ()
    persons = {person + shift: f"{person:03d}" for person in both} if shift else {}
    pattern = "viper" if name == "viper" else "auto"
    return Original(name, root, tuple(splits), persons, (*remarks, *left_out), pattern=pattern)
