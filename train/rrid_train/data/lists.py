"""The lists of the RRID layout: ``meta.json``, ``splits.json`` and ``test.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from rrid_edge.artefacts import LARGE_BYTES, Artefact, Content
from rrid_edge.errors import DatasetError, UsageError, printable
from rrid_edge.ranking.labels import LabelNames
from rrid_train.data.listed import check_files, check_inside, listed_path
from rrid_train.data.samples import Sample

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Person = Annotated[int, msgspec.Meta(ge=-1, le=2**31)]
_Camera = Annotated[int, msgspec.Meta(ge=-1, le=2**31)]
_Index = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Key = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,10}\Z")]
_REMEDY: Final = "copy the dataset again, or prepare it again"


@dataclass(frozen=True)
class _Meta:
    """``meta.json``: file names by person and camera, and what else is known."""

    identities: list[list[list[_Name]]]
    name: str = ""
    sequences: dict[str, str] = field(default_factory=dict)
    persons: dict[_Key, _Name] = field(default_factory=dict)
    cameras: dict[_Key, _Name] = field(default_factory=dict)


@dataclass(frozen=True)
class _Split:
    """An entry of ``splits.json``."""

    trainval: list[_Index]


@dataclass(frozen=True)
class _Test:
    """An entry of ``test.json``: rows of file name, person and camera."""

    query: list[tuple[_Name, _Person, _Camera]]
    gallery: list[tuple[_Name, _Person, _Camera]]


_META: Final = Artefact(
    'lists of people, expected "identities": [person][camera] -> file names', _Meta, _REMEDY, most_bytes=LARGE_BYTES
)
_SPLITS: Final = Artefact(
    'list of splits, expected [{"trainval": [person, ...]}, ...]', list[_Split], _REMEDY, most_bytes=LARGE_BYTES
)
_TESTS: Final = Artefact(
    'list of tests, expected [{"query": [[file name, person, camera], ...], "gallery": ...}, ...]',
    list[_Test],
    _REMEDY,
    most_bytes=LARGE_BYTES,
)


@dataclass(frozen=True)
class ListedSplit:
    """One split, as the lists give it.

    Attributes:
        name: name of the dataset; empty if it has none.
        trainval: images of the people to train on, in the order of the list.
        query: test queries.
        gallery: test gallery.
        names: what ``meta.json`` calls people and cameras.
    """

    name: str
    trainval: list[Sample]
    query: list[Sample]
    gallery: list[Sample]
    names: LabelNames = field(default_factory=LabelNames)


def read_lists(root: Path, split: int, splits_file: str) -> ListedSplit:
    """Read one split of a dataset in the RRID layout.

    Args:
        root: folder of the dataset.
        split: number of the entry in ``splits.json`` and ``test.json``.
        splits_file: file name to use in place of ``splits.json``.

    Raises:
        UsageError: there is no such split.
        ArtefactError: a list is damaged.
        DatasetError: a list is missing, the lists contradict each other, or an image is missing or leads out.
    """
    for name in ("meta.json", "splits.json", "test.json"):
        check_inside(root, root / name)
    meta: _Meta = _read(_META, root / "meta.json")
    persons = _person_of(root, meta)
    splits = root / splits_file
    entries: list[_Split] = _read(_SPLITS, splits)
    trainval = [
        Sample(_image(root, name, "meta.json"), person, camera, meta.sequences.get(name, ""))
        for person in _trainval(splits, _entry(splits, entries, split), len(meta.identities))
        for camera, names in enumerate(meta.identities[person])
        for name in names
    ]
    tests: list[_Test] = _read(_TESTS, root / "test.json")
    test = _entry(root / "test.json", tests, split)
    query, gallery = (_test_samples(root, rows, persons, meta) for rows in (test.query, test.gallery))
    check_files(root, (sample.path for sample in (*trainval, *query, *gallery)))
    called = ({int(number): name for number, name in names.items()} for names in (meta.persons, meta.cameras))
    return ListedSplit(meta.name, trainval, query, gallery, LabelNames(*called))


def _read(artefact: Artefact[Content], path: Path) -> Content:
    try:
        return artefact.read(path)
    except FileNotFoundError as error:
        raise DatasetError(f"{printable(path)}: missing from the RRID layout; copy the dataset again") from error


def _image(root: Path, name: str, file: str) -> Path:
    return listed_path(root / "images", name, printable(root / file))


def _person_of(root: Path, meta: _Meta) -> dict[str, int]:
    """The person of each file name in ``meta.json``."""
    persons: dict[str, int] = {}
    for person, cameras in enumerate(meta.identities):
        for name in (name for names in cameras for name in names):
            if persons.setdefault(name, person) != person:
                raise DatasetError(
                    f"{printable(root / 'meta.json')}: {name!r} is listed for persons {persons[name]} and {person}; "
                    "correct the list, or copy it again"
                )
    return persons


def _trainval(path: Path, entry: _Split, count: int) -> list[int]:
    twice = sorted(person for person, times in Counter(entry.trainval).items() if times > 1)
    if twice:
        raise DatasetError(
            f"{printable(path)}: person {twice[0]} is listed twice in trainval ({len(twice)} in all); correct the list"
        )
    unknown = [person for person in entry.trainval if person >= count]
    if unknown:
        raise DatasetError(
            f"{printable(path)}: person {unknown[0]} is not in meta.json, which has {count} ({len(unknown)} in all); "
            "copy both lists again"
        )
    return entry.trainval


def _test_samples(
    root: Path, rows: Sequence[tuple[str, int, int]], persons: dict[str, int], meta: _Meta
) -> list[Sample]:
    for name, person, _ in rows:
        if persons.get(name, person) != person:
            raise DatasetError(
                f"{printable(root / 'test.json')}: {name!r} is person {person}, and person {persons[name]} in "
                "meta.json; copy both lists again"
            )
    return [
        Sample(_image(root, name, "test.json"), person, camera, meta.sequences.get(name, ""))
        for name, person, camera in rows
    ]


def _entry(path: Path, entries: Sequence[Content], split: int) -> Content:
    if not 0 <= split < len(entries):
        raise UsageError(
            f"{printable(path)}: split {split} does not exist; expected 0 to {len(entries) - 1}", parameter="split"
        )
    return entries[split]
