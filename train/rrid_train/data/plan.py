"""Plans of datasets to write in the RRID layout.

A :class:`Plan` gives the source of every image and the lists that name it. :func:`write_plan` writes it to a folder,
which gets its final name when it is complete. Files are copied byte for byte, and arrays become PNG, without loss. So
evaluation of the prepared dataset gives the same numbers as the original.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.images import load_rgb
from rrid_edge.errors import DatasetError, ImageError, OutputError, printable
from rrid_edge.files import workplace, write_json
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_edge.ranking.labels import JUNK_PERSON
from rrid_train.data.cuhk03 import Picture
from rrid_train.data.samples import Sample, refuse_shared_persons

Source = Path | Picture


@dataclass(frozen=True)
class Split:
    """One split of a plan.

    Attributes:
        trainval: numbers of the people to train on and to validate with.
        query: indices of the test queries in ``Plan.sources``.
        gallery: indices of the test gallery in ``Plan.sources``.
    """

    trainval: tuple[int, ...]
    query: tuple[int, ...]
    gallery: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A dataset to write.

    Attributes:
        name: name for messages and checkpoints.
        sources: source of each image: a file, or a picture of ``cuhk-03.mat``.
        labels: person and camera of each image.
        splits: one or more splits.
        facts: further entries of ``meta.json``.
        pixels: returns a picture as RGB, uint8 (height, width, 3); None if all sources are files.
    """

    name: str
    sources: tuple[Source, ...]
    labels: tuple[tuple[int, int], ...]
    splits: tuple[Split, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: Callable[[Picture], NDArray[np.uint8]] | None = None


def plan_lists(
    name: str,
    raw: Path,
    train: list[Sample],
    query: list[Sample],
    gallery: list[Sample],
    facts: Mapping[str, Any] | None = None,
) -> Plan:
    """A plan with one split.

    Args:
        name: name of the dataset.
        raw: folder of the original, for messages.
        train: images to train on and to validate with.
        query: test queries.
        gallery: test gallery.
        facts: further entries of ``meta.json``.

    Raises:
        DatasetError: a person is both in training and in test.
    """
    refuse_shared_persons(raw, train, [*query, *gallery])
    places: dict[Path, int] = {}
    samples = [*train, *query, *gallery]
    for sample in samples:
        places.setdefault(sample.path, len(places))
    labels = dict(zip((sample.path for sample in samples), ((s.person, s.camera) for s in samples), strict=True))
    split = Split(
        tuple(sorted({sample.person for sample in train})),
        tuple(places[sample.path] for sample in query),
        tuple(places[sample.path] for sample in gallery),
    )
    return Plan(name, tuple(places), tuple(labels[path] for path in places), (split,), facts or {})


def write_plan(plan: Plan, out: Path, *, progress: Progress = NO_PROGRESS) -> None:
    """Write a dataset in the RRID layout.

    Args:
        plan: what to write.
        out: folder to write; it must be new or empty. Until it is complete, it has a hidden name in the same folder.
        progress: gets the number of images, and one step per image written.

    Raises:
        OutputError: ``out`` is not empty or cannot be written. No partial folder is left.
        DatasetError: an image of the original cannot be read. No partial folder is left.
    """
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{printable(out)}: the folder is not empty; give a new or an empty folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with workplace(out.parent) as place:
            _write(plan, place / "dataset", progress)
            if out.exists():
                out.rmdir()
            (place / "dataset").rename(out)
    except OSError as error:
        raise OutputError(
            f"{printable(error.filename or out)}: cannot be written ({error.strerror or error}); give a folder on a "
            "writable file system with free space"
        ) from error


def _write(plan: Plan, folder: Path, progress: Progress) -> None:
    """Write all files of the dataset. They are not synced: the folder gets its name when all are written."""
    (folder / "images").mkdir(parents=True)
    names = _names(plan)
    progress.start(len(names))
    for source, name in zip(plan.sources, names, strict=True):
        (folder / "images" / name).write_bytes(_content(plan, source))
        progress.advance(1)
    for file, content in _lists(plan, names).items():
        write_json(folder / file, content)


def _names(plan: Plan) -> list[str]:
    """File name of each image: ``<person 8 digits>_<camera 2>_<number 4>`` and the extension of its source."""
    counts: Counter[tuple[int, int]] = Counter()
    names = []
    for source, label in zip(plan.sources, plan.labels, strict=True):
        ending = source.suffix.lower() if isinstance(source, Path) else ".png"
        names.append(f"{label[0]:08d}_{label[1]:02d}_{counts[label]:04d}{ending}")
        counts[label] += 1
    return names


def _content(plan: Plan, source: Source) -> bytes:
    if isinstance(source, Path):
        try:
            load_rgb(source)
        except ImageError as error:
            raise DatasetError(f"{error.message}; copy the dataset again, or remove this file") from error
        return source.read_bytes()
    assert plan.pixels is not None
    stream = io.BytesIO()
    Image.fromarray(plan.pixels(source)).save(stream, "PNG")
    return stream.getvalue()


def _lists(plan: Plan, names: list[str]) -> dict[str, object]:
    """Contents of meta.json, splits.json and test.json by file name."""
    persons: list[list[list[str]]] = [[] for _ in range(max(person for person, _ in plan.labels) + 1)]
    for name, (person, camera) in zip(names, plan.labels, strict=True):
        if person != JUNK_PERSON:  # Junk has no index in this list; test.json names it.
            cameras = persons[person]
            cameras += [[] for _ in range(camera + 1 - len(cameras))]
            cameras[camera].append(name)
    cameras_seen = len({camera for _, camera in plan.labels})
    meta = {"name": plan.name, "num_cameras": cameras_seen, "identities": persons, **plan.facts}

    def numbers(places: tuple[int, ...]) -> list[int]:
        return sorted({plan.labels[place][0] for place in places} - {JUNK_PERSON})

    def rows(places: tuple[int, ...]) -> list[list[object]]:
        return [[names[place], *plan.labels[place]] for place in places]

    splits = [
        {"trainval": list(split.trainval), "query": numbers(split.query), "gallery": numbers(split.gallery)}
        for split in plan.splits
    ]
    tests = [{"query": rows(split.query), "gallery": rows(split.gallery)} for split in plan.splits]
    return {"meta.json": meta, "splits.json": splits, "test.json": tests}
