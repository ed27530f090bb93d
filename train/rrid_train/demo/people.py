"""The people of a demo dataset: near-twins, groups in the same clothes, and strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from rrid_train.demo.config import DemoConfig
from rrid_train.demo.pedestrian import Person, draw_near_twin, draw_person

_PERSON_STREAM, _STRANGER_STREAM = 1, 4
UNIFORM_PARTS: Final = ("upper", "lower", "hat")
_GROUP_SIZE: Final = 4
_STRANGERS_IN_UNIFORM: Final = 0.3


@dataclass(frozen=True)
class Twins:
    """Two near-twins, who differ in one part.

    Attributes:
        people: their indices.
        part: the field of :class:`~rrid_train.demo.pedestrian.Person` in which they differ.
    """

    people: tuple[int, int]
    part: str


@dataclass(frozen=True)
class Crowd:
    """Everybody in a dataset.

    Attributes:
        people: the people with a number of their own, in its order.
        strangers: the others, who are nobody's answer.
        twins: pairs of near-twins among the people.
        groups: indices of people who wear the same clothes (:data:`UNIFORM_PARTS`) and differ in the rest.
    """

    people: tuple[Person, ...]
    strangers: tuple[Person, ...] = ()
    twins: tuple[Twins, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    def person(self, index: int) -> Person:
        """Somebody by index; strangers follow the people."""
        return self.people[index] if index < len(self.people) else self.strangers[index - len(self.people)]


def draw_people(config: DemoConfig) -> tuple[tuple[Person, ...], tuple[Twins, ...]]:
    """All people of a dataset, and the pairs of near-twins among them.

    Every third person is a near-twin of the person before, counted separately for training and test people. So no pair
    has one person in training and one in test.
    """
    people: list[Person] = []
    twins: list[Twins] = []
    for person in range(config.people):
        generator = np.random.default_rng([config.seed, _PERSON_STREAM, person])
        first = 0 if person < config.training_people else config.training_people
        if (person - first) % 3 == 2:
            twin, part = draw_near_twin(people[-1], generator)
            people.append(twin)
            twins.append(Twins(people=(person - 1, person), part=part))
        else:
            people.append(draw_person(generator))
    return tuple(people), tuple(twins)


def draw_crowd(config: DemoConfig, strangers: int = 0) -> Crowd:
    """Everybody in the dataset of ``config``, with so many strangers. In a benchmark, groups wear the same clothes."""
    people, twins = draw_people(config)
    groups = _groups(config) if config.benchmark else ()
    dressed = list(people)
    for group in groups:
        for person in group[1:]:
            dressed[person] = _dressed_as(people[group[0]], people[person])
    uniforms = [people[group[0]] for group in groups if group[0] >= config.training_people]
    return Crowd(
        people=tuple(dressed),
        strangers=tuple(_stranger(config.seed, index, uniforms) for index in range(strangers)),
        twins=twins,
        groups=groups,
    )


def _groups(config: DemoConfig) -> tuple[tuple[int, ...], ...]:
    """Groups among the people who are in no pair of near-twins; half of these people are in a group.

    As pairs, groups are counted separately for training and test people.
    """
    groups: list[tuple[int, ...]] = []
    sides = (0, config.training_people), (config.training_people, config.people)
    for first, end in sides:
        single = range(first, end, 3)
        groups += [tuple(single[at : at + _GROUP_SIZE]) for at in range(0, len(single), 2 * _GROUP_SIZE)]
    return tuple(group for group in groups if len(group) > 1)


def _dressed_as(model: Person, person: Person) -> Person:
    return replace(person, upper=model.upper, lower=model.lower, hat=model.hat)


def _stranger(seed: int, index: int, uniforms: Sequence[Person]) -> Person:
    generator = np.random.default_rng([seed, _STRANGER_STREAM, index])
    stranger = draw_person(generator)
    if uniforms and generator.random() < _STRANGERS_IN_UNIFORM:
        return _dressed_as(uniforms[int(generator.integers(len(uniforms)))], stranger)
    return stranger
