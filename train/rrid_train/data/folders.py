"""Plans for your own crops: one folder per person."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.naming import CAMERA_PATTERN, name_reader, number_names
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.plan import Plan, plan_lists
from rrid_train.data.samples import Sample

_MOST_CAMERA_DIGITS = 4
"""A camera of more digits is numbered like a name: ``meta.json`` has a list entry for each number."""

_People = Mapping[str, Mapping[Path, str]]
"""By folder name of the person: the image files, and each file's path below the person's folder."""


def plan_folders(raw: Path, *, pattern: str = "auto", test_share: float = 0.5, seed: int = 0) -> Plan:
    """Plan a dataset from your own crops, one folder per person.

    If ``raw`` holds the folders ``train``, ``query`` and ``gallery``, these are the subsets. Otherwise a share of the
    people is drawn for testing. All their images are the gallery, and the first image per camera is a query. Evaluation
    leaves out a query's own camera, and so the query itself.

    Args:
        raw: the folder of the persons' folders, or of the three subsets.
        pattern: how to find the camera in the path below a person's folder. One of: ``auto`` (:data:`CAMERA_PATTERN`),
            a preset of :mod:`rrid_edge.crops.naming`, a regular expression with a group ``camera``, ``none`` (one
            camera). A camera that is a whole number keeps it. Other names are sorted and numbered above those.
        test_share: share of the people to draw for testing, in (0, 1).
        seed: seed of this draw.

    Raises:
        UsageError: there is no such folder, or a setting does not work.
        DatasetError: an image lies in no person's folder, a path gives no camera, or there are too few people.
    """
    if not 0 < test_share < 1:
        raise UsageError(
            f"test_share {test_share} does not work: expected a number between 0 and 1, for example 0.5",
            parameter="test_share",
        )
    parts = {part: raw / part for part in ("train", "query", "gallery")}
    if all(folder.is_dir() for folder in parts.values()):
        people = {part: _people(folder) for part, folder in parts.items()}
        camera_of = _camera_reader(pattern, people.values())
        names = sorted({name for found in people.values() for name in found}, key=os.fsencode)
        numbers = {name: number for number, name in enumerate(names, start=1)}
        train, query, gallery = (_samples(found, numbers, camera_of) for found in people.values())
    else:
        everybody = _people(raw)
        camera_of = _camera_reader(pattern, [everybody])
        numbers = {name: number for number, name in enumerate(everybody, start=1)}
        samples = _samples(everybody, numbers, camera_of)
        tested = max(1, round(test_share * len(numbers)))
        if len(numbers) - tested < 2:
            raise DatasetError(
                f"{printable(raw)}: {len(numbers)} people, of whom {tested} would be tested; expected at least 2 more "
                "to train on: add people or lower the test share",
                parameter="test_share",
            )
        chosen = np.random.default_rng([seed, 17]).permutation(sorted(numbers.values()))[:tested]
        test = set(chosen.tolist())
        train = [sample for sample in samples if sample.person not in test]
        gallery = [sample for sample in samples if sample.person in test]
        query = list({(sample.person, sample.camera): sample for sample in reversed(gallery)}.values())[::-1]
    persons = {str(number): printable(name) for name, number in numbers.items()}
    return plan_lists(raw.resolve().name, raw, train, query, gallery, {"persons": persons})


def _camera_reader(pattern: str, parts: Iterable[_People]) -> Callable[[str], int | None]:
    """A function from the path below a person's folder to the camera's number.

    Args:
        pattern: see :func:`plan_folders`.
        parts: all images, whose cameras are numbered together.
    """
    if pattern == "none":
        return lambda _path: 0
    reader = name_reader(CAMERA_PATTERN if pattern == "auto" else pattern)
    told = {reader(below).camera for people in parts for files in people.values() for below in files.values()}
    names = sorted(name for name in told if name is not None)
    numbers = dict(zip(names, number_names(names, r"\d+", 1, _MOST_CAMERA_DIGITS), strict=True))
    return lambda path: numbers.get(reader(path).camera or "")


def _people(folder: Path) -> _People:
    images = list_images(folder)
    loose = [path for path in images if path.parent == folder]
    if loose or not images:
        what = (
            f"{printable(loose[0].name)} lies in no person's folder ({len(loose)} in all)"
            if loose
            else "no images in it"
        )
        raise DatasetError(f"{printable(folder)}: {what}; expected one folder per person")
    people: dict[str, dict[Path, str]] = defaultdict(dict)
    for path in images:
        person, *below = path.relative_to(folder).parts
        people[person][path] = "/".join(below)
    return people


def _samples(people: _People, numbers: Mapping[str, int], camera_of: Callable[[str], int | None]) -> list[Sample]:
    # A person's folder may be named like a camera ("c3"), so only the path below it is searched.
    found = [(path, numbers[name], camera_of(below)) for name, files in people.items() for path, below in files.items()]
    unknown = [path for path, _, camera in found if camera is None]
    if unknown:
        raise DatasetError(
            f"{printable(unknown[0])}: no camera found in this path ({len(unknown)} in all); give a pattern with a "
            "group (?P<camera>...), or none if there is one camera",
            parameter="pattern",
        )
    return [Sample(path, person, camera) for path, person, camera in found if camera is not None]
