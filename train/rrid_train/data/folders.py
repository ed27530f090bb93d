"""Folders of one's own crops, one folder a person, as a dataset."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rrid_edge.crops.folder import walk_images
from rrid_edge.crops.naming import name_reader
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_train.data.plan import Plan, plan_lists
from rrid_train.data.samples import Sample

CAMERA_PATTERN = r"(?:^|[/_.\- ])c(?:am(?:era)?)?[_\-]?(?P<camera>\d+)"
"""Where names of one's own crops tell the camera: ``anna_c2_001.jpg``, ``cam3/0007.png``, ``camera-1_12.jpg``."""

_People = Mapping[str, Mapping[Path, str]]
"""Of every person by the folder's name: image files, and the part of the path below the person's folder."""


def plan_folders(raw: Path, *, pattern: str = "auto", test_share: float = 0.5, seed: int = 0) -> Plan:
    """Folders of one's own crops, one folder a person.

    Where ``raw`` holds folders ``train``, ``query`` and ``gallery``, their folders are the people of these subsets. Else a
    share of the people is drawn for testing; the first image of each of their cameras becomes a query, and all their
    images are the gallery (a query's own camera is left out when it is evaluated, and with it the query itself).

    Args:
        raw: the folder.
        pattern: where the path below ``raw`` tells the camera: ``auto`` (:data:`CAMERA_PATTERN`), a preset of
            :mod:`rrid_edge.crops.naming`, a regular expression with a group ``camera``, or ``none`` (one camera).
        test_share: share of the people kept for testing, in (0, 1).
        seed: of their choice.

    Raises:
        UsageError: no such folder, or settings that do not work.
        DatasetError: images outside of person folders, names without a camera, too few people.
    """
    if not 0 < test_share < 1:
        raise UsageError(
            f"test_share {test_share} does not work: expected a share between 0 and 1, for example 0.5",
            parameter="test_share",
        )
    parts = {part: raw / part for part in ("train", "query", "gallery")}
    camera_of = _camera_reader(pattern)
    if all(folder.is_dir() for folder in parts.values()):
        people = {part: _people(folder) for part, folder in parts.items()}
        names = sorted({name for found in people.values() for name in found}, key=os.fsencode)
        numbers = {name: number for number, name in enumerate(names, start=1)}
        train, query, gallery = (_samples(found, numbers, camera_of) for found in people.values())
    else:
        everybody = _people(raw)
        numbers = {name: number for number, name in enumerate(everybody, start=1)}
        samples = _samples(everybody, numbers, camera_of)
        tested = max(1, round(test_share * len(numbers)))
        if len(numbers) - tested < 2:
            raise DatasetError(
                f"{printable(raw)}: {len(numbers)} people, of whom {tested} would be tested; expected at least 2 left to "
                "train on: add people or lower the test share",
                parameter="test_share",
            )
        chosen = np.random.default_rng([seed, 17]).permutation(sorted(numbers.values()))[:tested]
        test = set(chosen.tolist())
        train = [sample for sample in samples if sample.person not in test]
        gallery = [sample for sample in samples if sample.person in test]
        query = list({(sample.person, sample.camera): sample for sample in reversed(gallery)}.values())[::-1]
    persons = {str(number): printable(name) for name, number in numbers.items()}
    return plan_lists(raw.resolve().name, raw, train, query, gallery, {"persons": persons})


def _camera_reader(pattern: str) -> Callable[[str], int | None]:
    if pattern == "none":
        return lambda _path: 0
    reader = name_reader(CAMERA_PATTERN if pattern == "auto" else pattern)
    return lambda path: reader(path).camera


def _people(folder: Path) -> _People:
    images, _ = walk_images(folder)
    loose = [path for path in images if path.parent == folder]
    if loose or not images:
        what = (
            f"{printable(loose[0].name)} lies in no person's folder ({len(loose)} in all)"
            if loose
            else "no images in it"
        )
        raise DatasetError(f"{printable(folder)}: {what}; expected one folder a person")
    people: dict[str, dict[Path, str]] = defaultdict(dict)
    for path in images:
        person, *below = path.relative_to(folder).parts
        people[person][path] = "/".join(below)
    return people


def _samples(people: _People, numbers: Mapping[str, int], camera_of: Callable[[str], int | None]) -> list[Sample]:
    # The person's own name may look like a camera's ("c3"), so only what stands below the person's folder tells.
    found = [(path, numbers[name], camera_of(below)) for name, files in people.items() for path, below in files.items()]
    silent = [path for path, _, camera in found if camera is None]
    if silent:
        raise DatasetError(
            f"{printable(silent[0])}: the camera cannot be read off this name ({len(silent)} in all); give a pattern with "
            "a group (?P<camera>...), or none where there is one camera",
            parameter="pattern",
        )
    return [Sample(path, person, camera) for path, person, camera in found if camera is not None]
