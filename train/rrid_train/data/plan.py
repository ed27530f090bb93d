"""Plans of datasets to write in the RRID layout.

A :class:`Plan` gives the source of every image and the lists that name it. :mod:`rrid_train.data.writing` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import printable
from rrid_edge.ranking.labels import LabelNames
from rrid_train.data.called import chosen_names, names_from_files
from rrid_train.data.cuhk03 import Picture
from rrid_train.data.original import Original
from rrid_train.data.samples import refuse_shared_persons

_SHOWN_CAMERAS = 8
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
        sequences: sequence of each image, an empty text where it is not known; empty if none is known.
        root: folder of the original; None if the sources are no files.
        remarks: what was left out of the original, one line each.
    """

    name: str
    sources: tuple[Source, ...]
    labels: tuple[tuple[int, int], ...]
    splits: tuple[Split, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixels: Callable[[Picture], NDArray[np.uint8]] | None = None
    sequences: tuple[str, ...] = ()
    root: Path | None = None
    remarks: tuple[str, ...] = ()


def plan_original(original: Original) -> Plan:
    """A plan with the splits of a dataset in its original form.

    Raises:
        DatasetError: a person is both in training and in test.
    """
    places: dict[Path, int] = {}
    labels: list[tuple[int, int]] = []
    sequences: list[str] = []
    splits = []
    for split in original.splits:
        refuse_shared_persons(original.root, split.train, [*split.query, *split.gallery])
        for sample in (*split.train, *split.query, *split.gallery):
            if sample.path not in places:
                places[sample.path] = len(places)
                labels.append((sample.person, sample.camera))
                sequences.append(sample.sequence)
        splits.append(
            Split(
                tuple(sorted({sample.person for sample in split.train})),
                tuple(places[sample.path] for sample in split.query),
                tuple(places[sample.path] for sample in split.gallery),
            )
        )
    everything = (sample for split in original.splits for part in (split.train, split.query, split.gallery)
                  for sample in part)  # fmt: skip
    told = names_from_files(everything, original.pattern)
    names = chosen_names(LabelNames(original.persons, original.cameras), told)
    facts = {
        name: {str(number): called for number, called in sorted(values.items())}
        for name, values in (("persons", names.persons), ("cameras", names.cameras))
        if values
    }
    return Plan(
        original.name,
        tuple(places),
        tuple(labels),
        tuple(splits),
        facts,
        sequences=tuple(sequences),
        root=original.root,
        remarks=original.remarks,
    )


def describe_people(plan: Plan, count: int = 3) -> str:
    """The first people of a plan with their cameras and a file, in one line, so that a wrong layout is seen early.

    Example: ``6 people: anna (cameras 1, 2; anna/cam1_000.jpg, ...), ...``.
    """
    files: dict[int, list[Source]] = {}
    cameras: dict[int, set[int]] = {}
    for source, (person, camera) in zip(plan.sources, plan.labels, strict=True):
        if person > 0:
            files.setdefault(person, []).append(source)
            cameras.setdefault(person, set()).add(camera)
    names, called = plan.facts.get("persons", {}), plan.facts.get("cameras", {})
    shown = []
    for person in sorted(files)[:count]:
        numbers = sorted(cameras[person])[:_SHOWN_CAMERAS]
        seen = ", ".join(printable(called.get(str(camera), str(camera))) for camera in numbers)
        more = ", ..." if len(cameras[person]) > _SHOWN_CAMERAS else ""
        first, *others = files[person]
        file = first.name if isinstance(first, Picture) or plan.root is None else str(first.relative_to(plan.root))
        name = names.get(str(person), str(person))
        shown.append(f"{name} (cameras {seen}{more}; {printable(file)}{', ...' if others else ''})")
    rest = ", ..." if len(files) > count else ""
    return f"{len(files):,} {'person' if len(files) == 1 else 'people'}: {', '.join(shown)}{rest}"
