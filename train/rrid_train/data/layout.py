"""Datasets ready to train on: the RRID layout, and Market-1501-style folders read directly.

The RRID layout is a folder with ``images/<person 8 digits>_<camera 2>_<number 4>.jpg``, ``meta.json`` ("identities":
[person][camera] -> file names), ``splits.json`` (a list of {"trainval", "query", "gallery"} lists of persons) and
``test.json`` (a list of {"query", "gallery"} lists of [file name, person, camera]).

Training people are renumbered 0 .. n-1 in ascending order of their number in the dataset.
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
    """A dataset, split.

    Attributes:
        name: for people and for checkpoints.
        root: its folder.
        train: what to train on.
        val_query: queries of the people held out of training; empty with ``combine_trainval``.
        val_gallery: their gallery: all images of the held-out people.
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
        """People to classify."""
        return len({sample.person for sample in self.train})

    def counts(self) -> dict[str, dict[str, int]]:
        """People and images of every subset; junk is no person. Validation only where somebody is held out."""
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
        """subset | persons | images, as lines of text."""
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
    combine_trainval: bool = False,
    seed: int = 0,
) -> Dataset:
    """Read and check a dataset.

    Args:
        path: its folder.
        dataset_type: one of :data:`DATASET_TYPES`; ``auto`` looks at what the folder holds.
        split: which entry of ``splits.json`` and ``test.json``.
        splits_file: another file name than ``splits.json``.
        num_val: people of trainval held out for validation: a share below 1, or a count.
        combine_trainval: train on all of trainval and hold nobody out.
        seed: of the choice of held-out people.

    Raises:
        UsageError: no such folder, an unknown type, split or number of validation people.
        DatasetError: the layout contradicts itself; names the first offending entry and the count.
    """
    root = Path(path)
    if dataset_type not in DATASET_TYPES:
        raise UsageError(
            f"dataset type {dataset_type!r} is unknown: expected one of {', '.join(DATASET_TYPES)}",
            parameter="dataset_type",
        )
    if not root.is_dir():
        raise UsageError(
            f"{printable(root)}: no such dataset folder; make one with rrid-edge demo-data, or give a Market-1501-style folder"
        )
    kind = _kind(root) if dataset_type == "auto" else dataset_type
    if kind == "rrid":
        trainval, query, gallery = _read_rrid(root, split, splits_file or "splits.json")
    else:
        trainval, query, gallery = read_market(root)
    refuse_shared_persons(root, trainval, [*query, *gallery])
    kept, held = _hold_out(trainval, 0 if combine_trainval else num_val, seed)
    numbers = {person: index for index, person in enumerate(sorted({sample.person for sample in kept}))}
    train = tuple(Sample(sample.path, numbers[sample.person], sample.camera) for sample in kept)
    if len(numbers) < 2:
        raise DatasetError(f"{printable(root)}: {len(numbers)} training people; expected at least 2")
    return Dataset(_name(root), root, train, _first_of_each_camera(held), tuple(held), tuple(query), tuple(gallery))


def is_dataset(root: Path) -> bool:
    """True where ``root`` is a folder that :func:`load_dataset` recognises by itself."""
    return (root / "meta.json").is_file() or is_market(root)


def _kind(root: Path) -> str:
    if (root / "meta.json").is_file():
        return "rrid"
    if is_market(root):
        return "market1501"
    raise DatasetError(
        f"{printable(root)}: neither the RRID layout (meta.json) nor a Market-1501-style folder "
        f"({', '.join(MARKET_FOLDERS)}); give the folder that holds them, or make one with rrid-edge prepare"
    )


def _name(root: Path) -> str:
    meta = root / "meta.json"
    if meta.is_file():
        content = _json(meta)
        if isinstance(content, dict) and isinstance(content.get("name"), str):
            return str(content["name"])
    return root.resolve().name


def held_out(num_val: float, persons: int) -> int:
    """How many of so many training people are held out.

    Args:
        num_val: a share below 1, or a count.
        persons: of trainval.

    Raises:
        UsageError: it does not fit: at least two must be left to train on.
    """
    count = int(num_val * persons) if 0 < num_val < 1 else int(num_val)
    if num_val < 0 or (num_val >= 1 and num_val != count) or count > persons - 2:
        raise UsageError(f"num-val {num_val} does not fit {persons} people: expected a share below 1 or a count")
    return count


def _hold_out(samples: list[Sample], num_val: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    persons = sorted({sample.person for sample in samples})
    count = held_out(num_val, len(persons))
    held = set(np.random.default_rng([seed, 3]).permutation(persons)[:count].tolist())
    return [sample for sample in samples if sample.person not in held], [
        sample for sample in samples if sample.person in held
    ]


def _first_of_each_camera(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """One query per person and camera: its first image."""
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
            f"({len(missing)} in all); copy the images, or mend the lists"
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
        raise DatasetError(f"{printable(path)}: expected a list of splits")
    if not 0 <= split < len(content):
        raise UsageError(f"{printable(path)}: split {split} does not exist; expected 0 to {len(content) - 1}")
    entry: dict[str, Any] = content[split]
    return entry


def _json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{printable(path)}: missing from the RRID layout; copy the dataset again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{printable(path)}: wrong JSON ({error}); copy the file again") from error
