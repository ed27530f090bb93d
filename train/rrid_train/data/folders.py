"""Your own crops: one folder per person, or one folder per camera with a folder per person in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rrid_edge.crops.folder import ImageFiles
from rrid_edge.crops.naming import DISTRACTOR, JUNK, label_kind, name_reader, number_names
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.folder_order import LAYOUTS, camera_first, refuse_camera_first
from rrid_train.data.listed import images_below
from rrid_train.data.original import MOST_CAMERA_DIGITS, Original, OriginalSplit, remarks_of, remarks_on_others
from rrid_train.data.samples import Sample

PARTS = ("train", "query", "gallery")


@dataclass(frozen=True)
class FolderSettings:
    """How to read folders of your own crops.

    Attributes:
        pattern: how to find the camera in the path below a person's folder. One of: ``auto`` (names of public datasets,
            and :data:`~rrid_edge.crops.naming.CAMERA_PATTERN`), a preset of :mod:`rrid_edge.crops.naming`, a regular
            expression with a group ``camera``, ``none`` (one camera). A camera that is a whole number keeps it. Other
            names are sorted and numbered above those. A group ``track`` is the sequence.
        test_share: share of the people to draw for testing, in (0, 1).
        seed: seed of this draw.
        layout: ``person-first`` (``anna/cam1/1.jpg`` or ``anna/cam1_1.jpg``), ``camera-first`` (``cam1/anna/1.jpg``;
            the pattern gives the sequence only), or ``auto``: person-first, but folders that look camera-first are
            refused.

    Raises:
        UsageError: a setting does not work.
    """

    pattern: str = "auto"
    test_share: float = 0.5
    seed: int = 0
    layout: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise UsageError(
                f"test_share {self.test_share} does not work: expected a number between 0 and 1, for example 0.5",
                parameter="test_share",
            )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} does not work: expected 0 or more", parameter="seed")
        if self.layout not in LAYOUTS:
            raise UsageError(
                f"layout {self.layout!r} is unknown: expected one of {', '.join(LAYOUTS)}", parameter="layout"
            )


@dataclass(frozen=True)
class _Crop:
    """One image: names of its person, camera and sequence; the camera is None if the path does not give it."""

    path: Path
    person: str
    camera: str | None
    sequence: str


def read_folders(raw: Path, settings: FolderSettings | None = None, *, follow_links: bool = False) -> Original:
    """Read your own crops.

    If ``raw`` holds the folders ``train``, ``query`` and ``gallery``, these are the subsets. Otherwise a share of the
    people is drawn for testing. All their images are the gallery, and the first image per camera is a query. Evaluation
    leaves out a query's own camera, and so the query itself.

    Args:
        raw: the folder of the persons' or cameras' folders, or of the three subsets.
        settings: how to read them; the defaults of :class:`FolderSettings` when None.
        follow_links: allow links that lead out of ``raw``.

    Raises:
        UsageError: there is no such folder.
        DatasetError: an image lies in no person's folder, a path gives no camera, the folders look camera-first, a link
            leads out, or there are too few people.
    """
    settings = settings or FolderSettings()
    subsets = all((raw / part).is_dir() for part in PARTS)
    tops = [raw / part for part in PARTS] if subsets else [raw]
    found = [images_below(raw, top, follow_links=follow_links) for top in tops]
    if settings.layout == "camera-first":
        parts = [_camera_first(top, images, settings.pattern) for top, images in zip(tops, found, strict=True)]
    else:
        parts = [_person_first(top, images, settings.pattern) for top, images in zip(tops, found, strict=True)]
        if settings.layout == "auto":
            placed = [
                (crop.path.relative_to(top).parts, crop.camera)
                for top, part in zip(tops, parts, strict=True)
                for crop in part
            ]
            refuse_camera_first(raw, placed)
    names = sorted({crop.person for part in parts for crop in part}, key=os.fsencode)
    persons = {name: number for number, name in enumerate(names, start=1)}
    cameras = _numbered_cameras(raw, [crop for part in parts for crop in part], tops)
    samples = [
        tuple(
            Sample(crop.path, persons[crop.person], cameras[crop.camera], crop.sequence)
            for crop in part
            if crop.camera is not None
        )
        for part in parts
    ]
    split = OriginalSplit(*samples) if subsets else _drawn(raw, samples[0], settings)
    shown = {number: printable(name) for name, number in persons.items()}
    named = {number: name for name, number in cameras.items() if name is not None and name != str(number)}
    remarks = (*remarks_of(found), *(remarks_on_others(raw, tops) if subsets else ()), *_remarks_on_people(names))
    return Original(raw.resolve().name, raw, (split,), shown, remarks, named, "none")


def _remarks_on_people(names: Iterable[str]) -> list[str]:
    """One line for each folder that is named like junk or distractors, which are people here."""
    return [
        f"folder {printable(name)} counts as one person; if it holds {kind} crops of several people, take it out"
        for name in names
        if (kind := label_kind(name)) in (JUNK, DISTRACTOR)
    ]


def _drawn(raw: Path, samples: Sequence[Sample], settings: FolderSettings) -> OriginalSplit:
    persons = sorted({sample.person for sample in samples})
    tested = max(1, round(settings.test_share * len(persons)))
    if len(persons) - tested < 2:
        raise DatasetError(
            f"{printable(raw)}: {len(persons)} people, of whom {tested} would be tested; expected at least 2 more "
            "to train on: add people or lower the test share",
            parameter="test_share",
        )
    test = set(np.random.default_rng([settings.seed, 17]).permutation(persons)[:tested].tolist())
    train = tuple(sample for sample in samples if sample.person not in test)
    gallery = tuple(sample for sample in samples if sample.person in test)
    query = list({(sample.person, sample.camera): sample for sample in reversed(gallery)}.values())[::-1]
    return OriginalSplit(train, tuple(query), gallery)


def _person_first(top: Path, images: ImageFiles, pattern: str) -> list[_Crop]:
    _refuse_loose(top, images, folders=1, expected="one folder per person")
    # The preset leaves out the person's folder, which may be named like a camera ("c3").
    read, with_person = name_reader("person-folders" if pattern == "auto" else pattern), pattern == "auto"
    crops = []
    for path in images.paths:
        person, *below = path.relative_to(top).parts
        facts = read("/".join((person, *below) if with_person else below))
        crops.append(_Crop(path, person, "0" if pattern == "none" else facts.camera, facts.track or ""))
    return crops


def _camera_first(top: Path, images: ImageFiles, pattern: str) -> list[_Crop]:
    _refuse_loose(top, images, folders=2, expected="one folder per camera, with one folder per person in it")
    read = name_reader(pattern)
    crops = []
    for path in images.paths:
        camera, person, *below = path.relative_to(top).parts
        crops.append(_Crop(path, person, camera_first(camera), read("/".join(below)).track or ""))
    return crops


def _refuse_loose(top: Path, images: ImageFiles, *, folders: int, expected: str) -> None:
    loose = [path for path in images.paths if len(path.relative_to(top).parts) <= folders]
    if loose or not images.paths:
        first = printable(loose[0].relative_to(top)) if loose else ""
        what = f"{first} lies in no person's folder ({len(loose)} in all)" if loose else "no images in it"
        raise DatasetError(f"{printable(top)}: {what}; expected {expected}")


def _numbered_cameras(raw: Path, crops: Sequence[_Crop], tops: Iterable[Path]) -> Mapping[str | None, int]:
    """A number for each name of a camera.

    Raises:
        DatasetError: a path gives no camera.
    """
    unknown = [crop.path for crop in crops if crop.camera is None]
    if unknown:
        top = next(top for top in tops if unknown[0].is_relative_to(top))
        nested = len(unknown[0].relative_to(top).parts) > 2
        hint = "; if the first folder is the camera, give the layout camera-first" if nested else ""
        raise DatasetError(
            f"{printable(unknown[0])}: no camera found in this path ({len(unknown)} in all); give a pattern with a "
            f"group (?P<camera>...), or none if there is one camera{hint}",
            parameter=("pattern", "layout") if nested else "pattern",
        )
    names = sorted({crop.camera for crop in crops if crop.camera is not None})
    return dict(zip(names, number_names(names, r"\d+", 1, MOST_CAMERA_DIGITS), strict=True))
