"""What the people and cameras of a dataset are called: as galleries, file names and ``match`` call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rrid_edge.crops.naming import PERSON, label_kind, name_reader
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, LabelNames
from rrid_train.data.samples import Sample


def names_from_files(samples: Iterable[Sample], pattern: str) -> LabelNames:
    """The names that the file of each person's and camera's first image tells, as :func:`name_reader` reads it.

    Args:
        samples: images of the dataset.
        pattern: of the names.
    """
    read = name_reader(pattern)
    persons: dict[int, str] = {}
    cameras: dict[int, str] = {}
    for sample in samples:
        if sample.person in persons and sample.camera in cameras:
            continue
        facts = read(sample.path.as_posix())
        if facts.person is not None and label_kind(facts.person, sample.path.as_posix()) == PERSON:
            persons.setdefault(sample.person, facts.person)
        if facts.camera is not None:
            cameras.setdefault(sample.camera, facts.camera)
    return _without_numbers(persons, cameras)


def chosen_names(first: LabelNames, second: LabelNames) -> LabelNames:
    """The names of ``first``, and those of ``second`` where it has none."""
    return _without_numbers({**second.persons, **first.persons}, {**second.cameras, **first.cameras})


def people_only(persons: Mapping[int, str]) -> dict[int, str]:
    """Names without those that mean junk or a distractor elsewhere, such as a folder ``0``: numbers are plain then."""
    return {number: name for number, name in persons.items() if label_kind(name) == PERSON}


def _without_numbers(persons: Mapping[int, str], cameras: Mapping[int, str]) -> LabelNames:
    """Names of people, and those of cameras that are not the number anyway. Junk and distractors have none."""
    return LabelNames(
        {number: name for number, name in persons.items() if number > DISTRACTOR_PERSON},
        {number: name for number, name in cameras.items() if name != str(number)},
    )
