"""Writes small datasets in the exact original forms of MSMT17, VIPeR, PRID 2011, CUHK01, and crops sorted by camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from support.originals import crop

MSMT17_TRAIN, MSMT17_TEST = 4, 3
"""People in the training and the test part of :func:`write_msmt17`."""


def save(path: Path, seed: int) -> None:
    """Write a small picture whose colours depend on ``seed``, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(crop(seed, 24, 12)).save(path)


def msmt17_lines(people: int, cameras: Sequence[int], first: int, recording: str = "0303morning") -> list[str]:
    """Lines of a list: for each person and camera one image, numbered from ``first``."""
    return [
        f"{person:04d}/{person:04d}_{first + place:03d}_{camera:02d}_{recording}_{15 + place:04d}_0.jpg {person}"
        for person in range(people)
        for place, camera in enumerate(cameras)
    ]


def write_msmt17(root: Path, version: int = 1) -> Path:
    """MSMT17 with persons of both parts numbered from 0. Images of validation are of the people of training."""
    train, test = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")
    lists = {
        "list_train.txt": (train, msmt17_lines(MSMT17_TRAIN, (1, 14), 0)),
        "list_val.txt": (train, msmt17_lines(MSMT17_TRAIN, (14,), 2, "0113noon")),
        "list_query.txt": (test, msmt17_lines(MSMT17_TEST, (1, 2), 0)),
        "list_gallery.txt": (test, msmt17_lines(MSMT17_TEST, (1, 2, 15), 2, "0303afternoon")),
    }
    for number, (name, (folder, lines)) in enumerate(lists.items()):
        for line in lines:
            path, person = line.split(" ")
            camera = int(path.split("_")[2])
            save(root / folder / path, 1000 * (folder == test) + 100 * int(person) + 10 * number + camera)
        (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root


def write_viper(root: Path, people: int = 8) -> Path:
    """``cam_a/000_45.bmp`` and ``cam_b/000_90.bmp``: persons from 0, with the angle of the view."""
    for person in range(people):
        save(root / "cam_a" / f"{person:03d}_{(0, 45, 90)[person % 3]}.bmp", 10 * person)
        save(root / "cam_b" / f"{person:03d}_{(90, 135, 180)[person % 3]}.bmp", 10 * person + 1)
    return root


def write_prid(root: Path, both: Iterable[int] = (1, 2, 3, 4, 5, 6)) -> Path:
    """PRID 2011, single shot and multi shot. Person 201 of each camera is another person."""
    for camera, persons in (("cam_a", (*both, 201, 202)), ("cam_b", (*both, 201, 749))):
        for person in persons:
            seed = 100 * person + (camera == "cam_b") + (1000 if person > 200 else 0)
            save(root / "single_shot" / camera / f"person_{person:04d}.png", seed)
            for frame in (1, 2):
                save(root / "multi_shot" / camera / f"person_{person:04d}" / f"{frame:04d}.png", seed + 10 * frame)
    return root


def write_cuhk01(root: Path, people: int = 6) -> Path:
    """CUHK01: ``0001001.png``, images 1 and 2 from the first camera, 3 and 4 from the second."""
    for person in range(1, people + 1):
        for image in (1, 2, 3, 4):
            save(root / "campus" / f"{person:04d}{image:03d}.png", 10 * person + image)
    return root


def write_camera_first(
    root: Path, cameras: Sequence[str] = ("cam01", "cam02", "cam03"), people: Sequence[str] = tuple("abcdefgh")
) -> Path:
    """Crops sorted by camera, then by person: ``cam01/person_a/cam01_person_a_frame000.jpg``."""
    for number, camera in enumerate(cameras):
        for place, person in enumerate(people):
            for frame in range(2):
                name = f"{camera}_person_{person}_frame{frame:03d}.jpg"
                save(root / camera / f"person_{person}" / name, 100 * place + 10 * number + frame)
    return root


def pixels_of(path: Path) -> np.ndarray:
    """The pixels of a picture."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
