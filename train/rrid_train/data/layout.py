"""Datasets to train on: the RRID layout, and Market-1501-style folders.

The RRID layout is a folder with ``images/<person 8 digits>_<camera 2>_<number 4>.jpg``, ``meta.json`` ("identities":
[person][camera] -> file names), ``splits.json`` (a list of {"trainval", "query", "gallery"} lists of persons) and
``test.json`` (a list of {"query", "gallery"} lists of [file name, person, camera]).

People to train on are renumbered 0 .. n-1, in ascending order of their number in the dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_edge.ranking.labels import JUNK_PERSON
from rrid_train.data.market import MARKET_FOLDERS, is_market, read_market
from rrid_train.data.samples import Sample, refuse_shared_persons
from rrid_train.settings import DATASET_TYPES

__all__ = ["Dataset", "Sample", "is_dataset", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset.

    Attributes:
        name: name for messages and checkpoints.
        root: folder of the dataset.
        train: images to train on.
        val_query: validation queries: one image per held-out person and camera; empty with ``combine_trainval``.
        val_gallery: validation gallery: all images of held-out people; empty with ``combine_trainval``.
        query: test queries.
        gallery: test gallery.
    """

    name: str
    root: Path
    train: tuple[Sample, ...]
    val_query: tuple[Sample, ...]
    val_gallery: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]

    @property
    def num_train_persons(self) -> int:
        """Number of people to train on."""
        return len({sample.person for sample in self.train})

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of people (without junk) and images per subset. Empty validation subsets are left out."""
        subsets = {
            "train": self.train,
            "val query": self.val_query,
            "val gallery": self.val_gallery,
            "query": self.query,
            "gallery": self.gallery,
        }
        return {
            name: {"persons": len({sample.person for sample in samples} - {JUNK_PERSON}), "images": len(samples)}
            for name, samples in subsets.items()
            if samples or not name.startswith("val")
        }

    def table(self) -> str:
        """:meth:`counts` as a text table: subset | persons | images."""
        lines = [f"{'subset':<12} | {'persons':>10} | {'images':>8}", f"{'-' * 12} | {'-' * 10} | {'-' * 8}"]
        for name, counts in self.counts().items():
            lines.append(f"{name:<12} | {counts['persons']:>10,} | {counts['images']:>8,}")
        return "\n".join(lines)


def load_dataset(
    path: str | Path,
    *,
    dataset_type: str = "auto",
    split: int = 0,
    splits_file: str | None = None,
    num_val: float = 0.3,
    seed: int = 0,
) -> Dataset:
    """Read and check a dataset.

    Args:
        path: folder of the dataset.
        dataset_type: one of :data:`DATASET_TYPES`; ``auto`` detects the layout.
        split: number of the entry in ``splits.json`` and ``test.json``, from 0.
        splits_file: file name to use in place of ``splits.json``.
        num_val: people of trainval to hold out for validation: a share below 1, or a count. 0 trains on all of them.
        seed: seed of the choice of held-out people.

    Raises:
        UsageError: there is no such folder, type or split, or ``num_val`` does not fit.
        DatasetError: the dataset contradicts its layout. The message names the first wrong entry and their number.
    """
    root = Path(path)
    if dataset_type not in DATASET_TYPES:
        raise UsageError(
            f"dataset type {dataset_type!r} is unknown: expected one of {', '.join(DATASET_TYPES)}",
            parameter="dataset_type",
        )
    if not root.is_dir():
        raise UsageError(
            f"{printable(root)}: no such dataset folder; make one with rrid-edge demo-data, or give a folder in "
            "Market-1501 style",
            parameter="dataset_path",
        )
    kind = _kind(root) if dataset_type == "auto" else dataset_type
    if kind == "rrid":
        trainval, query, gallery = _read_rrid(root, split, splits_file or "splits.json")
    else:
        trainval, query, gallery = read_market(root)
    refuse_shared_persons(root, trainval, [*query, *gallery])
    kept, held = _hold_out(trainval, num_val, seed)
    numbers = {person: index for index, person in enumerate(sorted({sample.person for sample in kept}))}
    train = tuple(Sample(sample.path, numbers[sample.person], sample.camera) for sample in kept)
    if len(numbers) < 2:
        raise DatasetError(
            f"{printable(root)}: {len(numbers)} training people; expected at least 2: add people or hold fewer out",
            parameter="num_val",
        )
    return Dataset(_name(root), root, train, _first_of_each_camera(held), tuple(held), tuple(query), tuple(gallery))


def is_dataset(root: Path) -> bool:
    """Whether :func:`load_dataset` detects the layout of ``root``."""
    return (root / "meta.json").is_file() or is_market(root)


def _kind(root: Path) -> str:
    if (root / "meta.json").is_file():
        return "rrid"
    if is_market(root):
        return "market1501"
    raise DatasetError(
        f"{printable(root)}: neither the RRID layout (meta.json) nor a Market-1501-style folder "
        f"({', '.join(MARKET_FOLDERS)}); give a folder that holds them, or make one with rrid-edge prepare"
    )


def _name(root: Path) -> str:
    meta = root / "meta.json"
    if meta.is_file():
        content = _json(meta)
        if isinstance(content, dict) and isinstance(content.get("name"), str):
            return str(content["name"])
    return root.resolve().name


def held_out(num_val: float, persons: int) -> int:
    """Number of people to hold out for validation.

    Args:
        num_val: a share below 1, or a count.
        persons: number of people in trainval.

    Raises:
        UsageError: ``num_val`` is negative or no whole count, or leaves fewer than 2 people to train on.
    """
    count = int(num_val * persons) if 0 < num_val < 1 else int(num_val)
    if num_val < 0 or (num_val >= 1 and num_val != count) or count > persons - 2:
        raise UsageError(
            f"num_val {num_val} does not fit {persons} people: expected a share below 1, or a count that leaves at "
            "least 2 people",
            parameter="num_val",
        )
    return count


def _hold_out(samples: list[Sample], num_val: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    persons = sorted({sample.person for sample in samples})
    count = held_out(num_val, len(persons))
    held = set(np.random.default_rng([seed, 3]).permutation(persons)[:count].tolist())
    return [sample for sample in samples if sample.person not in held], [
        sample for sample in samples if sample.person in held
    ]


def _first_of_each_camera(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The first image of each person in each camera."""
    first: dict[tuple[int, int], Sample] = {}
    for sample in samples:
        first.setdefault((sample.person, sample.camera), sample)
    return tuple(first.values())


def _read_rrid(root: Path, split: int, splits_file: str) -> tuple[list[Sample], list[Sample], list[Sample]]:
    persons = _persons(root)
    entry = _entry(root / splits_file, split)
    trainval = [
        Sample(root / "images" / name, person, camera)
        for person in _trainval(root / splits_file, entry, len(persons))
        for camera, names in enumerate(persons[person])
        for name in names
    ]
    test = _entry(root / "test.json", split)
    query, gallery = (_test_samples(root, test, part) for part in ("query", "gallery"))
    everything = {sample.path for sample in (*trainval, *query, *gallery)}
    missing = sorted(path for path in everything if not path.is_file())
    if missing:
        raise DatasetError(
            f"{printable(root)}: the image {printable(missing[0].relative_to(root))} is listed but missing "
            f"({len(missing)} in all); copy the images, or correct the lists"
        )
    return trainval, query, gallery


def _persons(root: Path) -> list[list[list[str]]]:
    content = _json(root / "meta.json")
    persons = content.get("identities") if isinstance(content, dict) else None
    good = isinstance(persons, list) and all(
        isinstance(cameras, list)
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in cameras)
        for cameras in persons
    )
    if not good or persons is None:
        raise DatasetError(
            f'{printable(root / "meta.json")}: expected "identities": [person][camera] -> list of file names'
        )
    seen: dict[str, int] = {}
    for person, cameras in enumerate(persons):
        for name in (name for names in cameras for name in names):
            if seen.setdefault(name, person) != person:
                raise DatasetError(
                    f"{printable(root / 'meta.json')}: {name!r} is listed for persons {seen[name]} and {person}"
                )
    checked: list[list[list[str]]] = persons
    return checked


def _trainval(path: Path, entry: dict[str, Any], count: int) -> list[int]:
    persons = entry.get("trainval")
    if not isinstance(persons, list) or not all(isinstance(person, int) for person in persons):
        raise DatasetError(f'{printable(path)}: expected "trainval": list of person numbers')
    twice = sorted({person for person in persons if persons.count(person) > 1})
    if twice:
        raise DatasetError(f"{printable(path)}: person {twice[0]} is listed twice in trainval ({len(twice)} in all)")
    unknown = [person for person in persons if not 0 <= person < count]
    if unknown:
        raise DatasetError(
            f"{printable(path)}: person {unknown[0]} is not in meta.json, which has {count} ({len(unknown)} in all)"
        )
    return persons


def _test_samples(root: Path, entry: dict[str, Any], part: str) -> list[Sample]:
    rows = entry.get(part)
    where = printable(root / "test.json")
    if not isinstance(rows, list):
        raise DatasetError(f'{where}: expected "{part}": list of [file name, person, camera]')
    for row in rows:
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str)):
            raise DatasetError(f"{where}: the entry {row!r} of {part} is not [file name, person, camera]")
    return [Sample(root / "images" / name, int(person), int(camera)) for name, person, camera in rows]


def _entry(path: Path, split: int) -> dict[str, Any]:
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f"{printable(path)}: expected a list of splits; copy the file again")
    if not 0 <= split < len(content):
        raise UsageError(
            f"{printable(path)}: split {split} does not exist; expected 0 to {len(content) - 1}", parameter="split"
        )
    entry: dict[str, Any] = content[split]
    return entry


def _json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{printable(path)}: missing from the RRID layout; copy the dataset again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{printable(path)}: invalid JSON ({error}); copy the file again") from error
