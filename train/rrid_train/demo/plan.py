"""What a demo data set consists of: its settings, its people and cameras, and every file before the first is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from rrid_edge.errors import UsageError
from rrid_train.demo.pedestrian import Person, draw_near_twin, draw_person
from rrid_train.demo.scene import Camera, draw_cameras, draw_shot

_PERSON_STREAM, _CAMERA_STREAM, _SHOT_STREAM = 1, 2, 3
_LIMITS: Final = {"seed": (0, 2**31 - 1), "persons": (6, 9999), "cameras": (2, 32), "images_per_camera": (2, 99)}


@dataclass(frozen=True)
class DemoConfig:
    """Settings of one demo data set.

    Attributes:
        seed: seed of everything that is drawn by lot.
        persons: people altogether; a third of them (rounded down) are test people.
        cameras: cameras; every person is seen by all of them.
        images_per_camera: shots of a person by a camera; of test people the first is a query.
    """

    seed: int = 0
    persons: int = 120
    cameras: int = 6
    images_per_camera: int = 3

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(f"{name.replace('_', ' ')} {value} does not work: expected {least} to {most}")

    @property
    def test_persons(self) -> int:
        """Number of people that training never sees."""
        return self.persons // 3

    @property
    def training_persons(self) -> int:
        """Number of people for training; they have the lowest numbers."""
        return self.persons - self.test_persons


@dataclass(frozen=True)
class Twins:
    """Two people who differ in one part.

    Attributes:
        persons: their two numbers.
        part: the field of :class:`~rrid_train.demo.pedestrian.Person` in which they differ.
    """

    persons: tuple[int, int]
    part: str


@dataclass(frozen=True)
class Shot:
    """One file to draw.

    Attributes:
        name: path in the data set's folder.
        person: who is shown.
        camera: camera number, from 0.
        number: tells shots of one person by one camera apart.
    """

    name: str
    person: int
    camera: int
    number: int


@dataclass(frozen=True)
class DemoPlan:
    """All files of one data set, before the first is drawn."""

    config: DemoConfig
    people: tuple[Person, ...]
    cameras: tuple[Camera, ...]
    twins: tuple[Twins, ...]
    images: tuple[Shot, ...]
    gallery: tuple[Shot, ...]
    query: Shot
    queries: tuple[Shot, ...]

    def shots(self) -> Iterator[Shot]:
        """Every file to draw."""
        yield from self.images
        yield from self.gallery
        yield self.query
        yield from self.queries

    def draw(self, shot: Shot) -> bytes:
        """The JPEG file of one shot. Every shot has a generator of its own, so the order of drawing does not matter."""
        generator = np.random.default_rng([self.config.seed, _SHOT_STREAM, shot.person, shot.camera, shot.number])
        return draw_shot(self.people[shot.person], self.cameras[shot.camera], generator)


def draw_people(config: DemoConfig) -> tuple[tuple[Person, ...], tuple[Twins, ...]]:
    """Everybody of a data set, and the near-twins: the third, sixth ... of each part resembles the one before.

    Pairs never reach across the border between training and test people.
    """
    people: list[Person] = []
    twins: list[Twins] = []
    for person in range(config.persons):
        generator = np.random.default_rng([config.seed, _PERSON_STREAM, person])
        first = 0 if person < config.training_persons else config.training_persons
        if (person - first) % 3 == 2:
            twin, part = draw_near_twin(people[-1], generator)
            people.append(twin)
            twins.append(Twins(persons=(person - 1, person), part=part))
        else:
            people.append(draw_person(generator))
    return tuple(people), tuple(twins)


def plan_demo(config: DemoConfig) -> DemoPlan:
    """Everything that the data set of ``config`` consists of."""
    people, twins = draw_people(config)
    cameras = draw_cameras(config.cameras, np.random.default_rng([config.seed, _CAMERA_STREAM]))
    test = range(config.training_persons, config.persons)
    images = tuple(
        Shot(f"images/{person:08d}_{camera:02d}_{number:04d}.jpg", person, camera, number)
        for person in range(config.persons)
        for camera in range(config.cameras)
        for number in range(config.images_per_camera)
    )
    extra = config.images_per_camera  # the first shot number that images/ does not use
    # One of a pair of near-twins where there is one (a third test person): the harder question.
    asked = test[min(2, len(test) - 1)]
    query = Shot("query.jpg", asked, 0, extra + 1)
    queries = tuple(
        Shot(f"queries/{_market_name(test[0], 1, extra + number)}", test[0], 1, extra + number)
        for number in range(1, 4)
    )
    unseen = {(query.person, query.camera), (queries[0].person, queries[0].camera)}
    gallery = tuple(
        Shot(f"gallery/{_market_name(person, camera, extra)}", person, camera, extra)
        for person in test
        for camera in range(config.cameras)
        if (person, camera) not in unseen
    )
    return DemoPlan(config, people, cameras, twins, images, gallery, query, queries)


def person_name(person: int) -> str:
    """A person as the names of gallery files write it."""
    return f"{person:04d}"


def _market_name(person: int, camera: int, number: int) -> str:
    """A Market-1501 style name: person, camera and sequence (from 1), frame, box."""
    frame = (person * 131 + camera * 17 + number * 7) % 1_000_000
    return f"{person_name(person)}_c{camera + 1}s1_{frame:06d}_00.jpg"
