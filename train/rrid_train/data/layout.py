"""Datasets to train on: the RRID layout, and public datasets in their original form.

The RRID layout is a folder with ``images/<person 8 digits>_<camera 2>_<number 4>.jpg``, ``meta.json`` ("identities":
[person][camera] -> file names), ``splits.json`` (a list of {"trainval", "query", "gallery"} lists of persons) and
``test.json`` (a list of {"query", "gallery"} lists of [file name, person, camera]).

People to train on are renumbered 0 .. n-1, in ascending order of their number in the dataset, and people held out for
validation 1 .. n. In the test lists, person -1 is junk and person 0 is a distractor. ``meta.json`` does not list junk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_edge.file_kinds import no_such
from rrid_edge.progress import step
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON, LabelNames
from rrid_edge.ranking.measurable import Measurable, measurable
from rrid_train.data.called import chosen_names, names_from_files, people_only
from rrid_train.data.lists import ListedSplit, read_lists
from rrid_train.data.readers import RRID, read_original, recognise, recognised
from rrid_train.data.samples import Sample, labels_of, paired_labels, refuse_shared_persons
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
        remarks: what was left out, one line each.
        names: what people and cameras of the test split are called in galleries and file names.
    """

    name: str
    root: Path
    train: tuple[Sample, ...]
    val_query: tuple[Sample, ...]
    val_gallery: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    remarks: tuple[str, ...] = ()
    names: LabelNames = field(default_factory=LabelNames)

    @property
    def num_train_persons(self) -> int:
        """Number of people to train on."""
        return len({sample.person for sample in self.train})

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of people and images per subset, as the field counts them.

        Junk and distractors are no people. Junk is not scored, so it is no image here either. ``distractors`` and
        ``junk`` are their numbers of images, where there are any. Empty validation subsets are left out.
        """
        subsets = {
            "train": {"persons": self.num_train_persons, "images": len(self.train)},
            "val query": _counts(self.val_query),
            "val gallery": _counts(self.val_gallery),
            "query": _counts(self.query),
            "gallery": _counts(self.gallery),
        }
        return {name: counts for name, counts in subsets.items() if counts["images"] or not name.startswith("val")}

    def scored(self) -> Dataset:
        """The dataset without junk in queries and gallery, which no measure of a ranking counts."""
        query, gallery = (
            tuple(sample for sample in samples if sample.person != JUNK_PERSON)
            for samples in (self.query, self.gallery)
        )
        return replace(self, query=query, gallery=gallery)

    def measurable(self, part: Literal["test", "val"] = "test", *, same_camera: bool = False) -> Measurable:
        """What can be measured with the test split, or with the people held out for validation."""
        sides = (self.query, self.gallery) if part == "test" else (self.val_query, self.val_gallery)
        return measurable(*paired_labels(*sides), same_camera=same_camera)

    def table(self) -> str:
        """:meth:`counts` as a text table: subset | persons | images. Junk, distractors and what was left out follow."""
        lines = [f"{'subset':<12} | {'persons':>10} | {'images':>8}", f"{'-' * 12} | {'-' * 10} | {'-' * 8}"]
        for name, counts in self.counts().items():
            lines.append(f"{name:<12} | {counts['persons']:>10,} | {counts['images']:>8,}")
        return "\n".join((*lines, *self.explained(), *self.remarks))

    def explained(self) -> list[str]:
        """One line for each subset with junk or distractors: what its crops are, and which are scored."""
        return [
            _explained(name, counts)
            for name, counts in self.counts().items()
            if {"junk", "distractors"} & counts.keys()
        ]


def _counts(samples: Sequence[Sample]) -> dict[str, int]:
    labels = labels_of(samples)
    junk, distractors = (int(np.count_nonzero(labels.persons == person)) for person in (JUNK_PERSON, DISTRACTOR_PERSON))
    counts = {"persons": labels.people, "images": len(samples) - junk}
    return counts | {name: count for name, count in (("distractors", distractors), ("junk", junk)) if count}


def _explained(subset: str, counts: Mapping[str, int]) -> str:
    """``gallery: 15,913 of 19,732 crops are scored: 13,115 of 750 people, 2,798 distractors; 3,819 are junk``."""
    scored, persons = counts["images"], counts["persons"]
    distractors, junk = counts.get("distractors", 0), counts.get("junk", 0)
    crops = f"{scored:,} of {scored + junk:,} crops are scored" if junk else f"{scored:,} crops"
    parts = [f"{scored - distractors:,} of {persons:,} {'person' if persons == 1 else 'people'}"]
    if distractors:
        parts.append(f"{distractors:,} distractor{'' if distractors == 1 else 's'}")
    rest = f"; {junk:,} {'is' if junk == 1 else 'are'} junk" if junk else ""
    return f"{subset}: {crops}: {', '.join(parts)}{rest}"


@step("reading the dataset")
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
        dataset_type: one of :data:`DATASET_TYPES`; ``auto`` detects the layout. ``market1501``, ``dukemtmc`` and
            ``cuhk03`` are one form; ``folders`` are read with the defaults of
            :class:`~rrid_train.data.folders.FolderSettings`.
        split: number of the split, from 0.
        splits_file: file name to use in place of ``splits.json``.
        num_val: people of trainval to hold out for validation: a share below 1, or a count. 0 trains on all of them.
        seed: seed of the choice of held-out people.

    Raises:
        UsageError: there is no such folder, type or split, or ``num_val`` does not fit.
        ArtefactError: a list of the RRID layout is damaged.
        DatasetError: the dataset contradicts its layout. The message names the first wrong entry and their number.
    """
    root = Path(path)
    kind = kind_of(root, dataset_type)
    listed, remarks = _listed(root, kind, split, splits_file)
    # One order for all forms, so that training on a prepared dataset equals training on the original.
    trainval = sorted(listed.trainval, key=lambda sample: (sample.person, sample.camera))
    query, gallery = listed.query, listed.gallery
    refuse_shared_persons(root, trainval, [*query, *gallery], separate=kind == "market1501")
    kept, held = _hold_out(trainval, num_val, seed)
    numbers = _numbers(kept, 0)
    train = tuple(Sample(sample.path, numbers[sample.person], sample.camera) for sample in kept)
    # Some layouts number people from 0, which would be a distractor.
    numbered = _numbers(held, DISTRACTOR_PERSON + 1)
    held = [replace(sample, person=numbered[sample.person]) for sample in held]
    if len(numbers) < 2:
        raise DatasetError(
            f"{printable(root)}: {len(numbers)} training people; expected at least 2: add people or hold fewer out",
            parameter="num_val",
        )
    name = listed.name or root.resolve().name
    return Dataset(
        name, root, train, _first_of_each_camera(held), tuple(held), tuple(query), tuple(gallery), remarks, listed.names
    )


def is_dataset(root: Path) -> bool:
    """Whether :func:`load_dataset` detects the layout of ``root``."""
    return recognised(root) is not None


def kind_of(path: str | Path, dataset_type: str = "auto") -> str:
    """The kind of a dataset's folder: ``dataset_type``, or what its files say. It reads no lists.

    Raises:
        UsageError: there is no such folder or type.
        DatasetError: the folder has the form of no dataset.
    """
    root = Path(path)
    if dataset_type not in DATASET_TYPES:
        raise UsageError(
            f"dataset type {dataset_type!r} is unknown: expected one of {', '.join(DATASET_TYPES)}",
            parameter="dataset_type",
        )
    if root.is_file():
        raise UsageError(
            f"{printable(root)}: this is a file; expected the folder of a dataset: unpack an archive first",
            parameter="dataset_path",
        )
    if not root.is_dir():
        raise UsageError(
            f"{printable(root)}: {no_such(root, 'dataset folder')}; make one with rrid-edge demo-data, or give a "
            "folder in Market-1501 style",
            parameter="dataset_path",
        )
    return recognise(root) if dataset_type == "auto" else dataset_type


def _listed(root: Path, kind: str, split: int, splits_file: str | None) -> tuple[ListedSplit, tuple[str, ...]]:
    """One split with the names of its people and cameras, and what was left out."""
    if kind == RRID:
        listed = read_lists(root, split, splits_file or "splits.json")
        named = replace(listed.names, persons=people_only(listed.names.persons))
        names = chosen_names(named, names_from_files((*listed.query, *listed.gallery), "auto"))
        return replace(listed, names=names), ()
    if splits_file is not None:
        raise UsageError(
            f"{printable(root)}: a file of splits fits the RRID layout only, and this is {kind}; prepare the "
            "dataset first, or take one of its own splits",
            parameter="splits_file",
        )
    return _from_original(root, kind, split)


def _from_original(root: Path, kind: str, split: int) -> tuple[ListedSplit, tuple[str, ...]]:
    original = read_original(root, kind)
    if not 0 <= split < len(original.splits):
        raise UsageError(
            f"{printable(root)}: split {split} does not exist; expected 0 to {len(original.splits) - 1}",
            parameter="split",
        )
    chosen = original.splits[split]
    named = LabelNames(people_only(original.persons), original.cameras)
    names = chosen_names(names_from_files((*chosen.query, *chosen.gallery), original.pattern), named)
    parts = list(chosen.train), list(chosen.query), list(chosen.gallery)
    return ListedSplit(original.name, *parts, names), original.remarks


def held_out(num_val: float, persons: int) -> int:
    """Number of people to hold out for validation.

    Args:
        num_val: a share below 1, or a count.
        persons: number of people in trainval.

    Raises:
        UsageError: ``num_val`` is negative or no whole count, or leaves fewer than 2 people to train on.
    """
    finite = math.isfinite(num_val)
    count = int(num_val * persons) if 0 < num_val < 1 else int(num_val) if finite else -1
    if not finite or num_val < 0 or (num_val >= 1 and num_val != count) or count > persons - 2:
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


def _numbers(samples: Iterable[Sample], first: int) -> dict[int, int]:
    """A new number for each person, in ascending order."""
    return {person: first + index for index, person in enumerate(sorted({sample.person for sample in samples}))}


def _first_of_each_camera(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """The first image of each person in each camera."""
    first: dict[tuple[int, int], Sample] = {}
    for sample in samples:
        first.setdefault((sample.person, sample.camera), sample)
    return tuple(first.values())
