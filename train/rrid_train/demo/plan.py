"""Plan of a demo dataset: its settings, people and cameras, and the list of all files to draw."""

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
    """Settings of one demo dataset.

    Attributes:
        seed: seed of all random choices.
        persons: number of people; a third of them (rounded down) are test people.
        cameras: number of cameras; each person appears in all of them.
        images_per_camera: images per person and camera; the first one of a test person is a query.

    Raises:
        UsageError: a value is out of range.
    """

    seed: int = 0
    persons: int = 120
    cameras: int = 6
    images_per_camera: int = 3

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(
                    f"{name.replace('_', ' ')} {value} does not work: expected {least} to {most}", parameter=name
                )

    @property
    def test_persons(self) -> int:
        """Number of people for testing; they have the highest numbers."""
        return self.persons // 3

    @property
    def training_persons(self) -> int:
        """Number of people for training; they have the lowest numbers."""
        return self.persons - self.test_persons


@dataclass(frozen=True)
class Twins:
    """Two near-twins, who differ in one part.

    Attributes:
        persons: their numbers.
        part: the field of :class:`~rrid_train.demo.pedestrian.Person` in which they differ.
    """

    persons: tuple[int, int]
    part: str


@dataclass(frozen=True)
class Shot:
    """One file to draw.

    Attributes:
        name: path below the dataset's folder.
        person: number of the person, from 0.
        camera: number of the camera, from 0.
        number: number of the shot of this person in this camera, from 0.
    """

    name: str
    person: int
    camera: int
    number: int


@dataclass(frozen=True)
class DemoPlan:
    """People, cameras and files of one demo dataset."""

    config: DemoConfig
    people: tuple[Person, ...]
    cameras: tuple[Camera, ...]
    twins: tuple[Twins, ...]
    images: tuple[Shot, ...]
    gallery: tuple[Shot, ...]
    query: Shot
    queries: tuple[Shot, ...]

    def shots(self) -> Iterator[Shot]:
        """All files to draw."""
        yield from self.images
        yield from self.gallery
        yield self.query
        yield from self.queries

    def draw(self, shot: Shot) -> bytes:
        """The JPEG file of one shot. Each shot has its own seed, so the order of drawing does not matter."""
        generator = np.random.default_rng([self.config.seed, _SHOT_STREAM, shot.person, shot.camera, shot.number])
        return draw_shot(self.people[shot.person], self.cameras[shot.camera], generator)


def draw_people(config: DemoConfig) -> tuple[tuple[Person, ...], tuple[Twins, ...]]:
    """All people of a dataset, and the pairs of near-twins among them.

    Every third person is a near-twin of the person before, counted separately for training and test people. So no pair
    has one person in training and one in test.
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
    """Plan the dataset of ``config``. Nothing is drawn yet."""
    people, twins = draw_people(config)
    cameras = draw_cameras(config.cameras, np.random.default_rng([config.seed, _CAMERA_STREAM]))
    test = range(config.training_persons, config.persons)
    images = tuple(
        Shot(f"images/{person:08d}_{camera:02d}_{number:04d}.jpg", person, camera, number)
        for person in range(config.persons)
        for camera in range(config.cameras)
        for number in range(config.images_per_camera)
    )
    extra = config.images_per_camera  # The first shot number that images/ does not use.
    # The third test person is a near-twin, which makes the query harder; with fewer people, take the last one.
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
    """A person's number as in the names of gallery files."""
    return f"{person:04d}"


def _market_name(person: int, camera: int, number: int) -> str:
    """A Market-1501-style file name: person, camera and sequence (from 1), frame, box."""
    frame = (person * 131 + camera * 17 + number * 7) % 1_000_000
    return f"{person_name(person)}_c{camera + 1}s1_{frame:06d}_00.jpg"
