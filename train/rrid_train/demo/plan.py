"""Plan of a demo dataset: its people and cameras, and the list of all files to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from rrid_train.demo.benchmark import counts_of, extra_crops, strangers_of
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.hardship import draw_hard_shot
from rrid_train.demo.mislabelled import with_wrong_labels
from rrid_train.demo.people import Crowd, draw_crowd
from rrid_train.demo.scene import Camera, draw_cameras, draw_shot
from rrid_train.demo.shots import Shot, image_name, market_name

_CAMERA_STREAM, _SHOT_STREAM = 2, 3
_EXTRA = 1_000_000
"""First number of the junk and distractors in ``gallery/``; the numbers of those in ``images/`` are smaller."""


@dataclass(frozen=True)
class DemoPlan:
    """People, cameras and files of one demo dataset.

    Attributes:
        config: settings.
        crowd: the people, in the order of their numbers, and the strangers.
        cameras: the cameras.
        images: files of the dataset.
        gallery: files of ``gallery/``.
        query: the single query.
        queries: three queries of one person.
    """

    config: DemoConfig
    crowd: Crowd
    cameras: tuple[Camera, ...]
    images: tuple[Shot, ...]
    gallery: tuple[Shot, ...]
    query: Shot
    queries: tuple[Shot, ...]

    @property
    def query_twin(self) -> tuple[int, str] | None:
        """The near-twin of the single query's person: index, and the part in which they differ; None without one."""
        for pair in self.crowd.twins:
            if self.query.person in pair.people:
                return next(person for person in pair.people if person != self.query.person), pair.part
        return None

    def shots(self) -> Iterator[Shot]:
        """All files to draw."""
        yield from self.images
        yield from self.gallery
        yield self.query
        yield from self.queries

    def draw(self, shot: Shot) -> bytes:
        """The JPEG file of one shot. Each shot has its own seed, so the order of drawing does not matter."""
        person, camera = self.crowd.person(shot.person), self.cameras[shot.camera]
        seed = [self.config.seed, _SHOT_STREAM, shot.person, shot.camera, shot.number]
        if not self.config.benchmark:
            return draw_shot(person, camera, np.random.default_rng(seed))
        kind = ("person", "cut", "two", "shifted", "wide", "background").index(shot.kind)
        return draw_hard_shot(shot.kind, person, self.crowd.people, camera, np.random.default_rng([*seed, kind]))


def plan_demo(config: DemoConfig) -> DemoPlan:
    """Plan the dataset of ``config``. Nothing is drawn yet."""
    cameras = draw_cameras(config.cameras, np.random.default_rng([config.seed, _CAMERA_STREAM]))
    answers = [shot for person in range(config.people) for shot in _shots_of(config, person)]
    extras = extra_crops(config, sum(1 for shot in answers if is_test(config, shot) and not shot.query))
    query, queries = _queries(config)
    shown = [shot for shot in _gallery(config) if _where(shot) not in {_where(query), _where(queries[0])}]
    strays = extra_crops(config, len(shown), _EXTRA)
    crowd = draw_crowd(config, strangers_of([*extras, *strays], config))
    return DemoPlan(
        config=config,
        crowd=crowd,
        cameras=cameras,
        images=_named([*with_wrong_labels(answers, config, crowd), *extras]),
        gallery=(*shown, *(replace(shot, name=f"gallery/{market_name(shot.label, shot.number)}") for shot in strays)),
        query=query,
        queries=queries,
    )


def is_test(config: DemoConfig, shot: Shot) -> bool:
    """Whether a shot belongs to the test split."""
    return shot.person >= config.training_people


def _where(shot: Shot) -> tuple[int, int]:
    return shot.person, shot.camera


def _shots_of(config: DemoConfig, person: int) -> Iterator[Shot]:
    """The images of a person. A test person's first image in a camera is a query where there are more."""
    for camera, count in counts_of(config, person).items():
        for number in range(count):
            shot = Shot("", person, camera, number, (person + config.first_number, camera + 1))
            yield replace(shot, query=is_test(config, shot) and number == 0 and count > 1)


def _named(shots: Iterable[Shot]) -> tuple[Shot, ...]:
    """The shots with the names that their labels give them."""
    counts: Counter[tuple[int, int]] = Counter()
    named = []
    for shot in shots:
        named.append(replace(shot, name=image_name(shot.label, counts[shot.label])))
        counts[shot.label] += 1
    return tuple(named)


def _beyond(config: DemoConfig) -> int:
    """The first shot number that images/ does not use."""
    return config.images_per_camera * (2 if config.benchmark else 1)


def _queries(config: DemoConfig) -> tuple[Shot, tuple[Shot, ...]]:
    """The single query, and three queries of the first test person."""
    test, extra = range(config.training_people, config.people), _beyond(config)
    # The third test person is a near-twin, which makes the query harder; with fewer people, take the last one.
    asked = test[min(2, len(test) - 1)]
    camera, other = min(counts_of(config, asked)), tuple(counts_of(config, test[0]))[1]
    query = _placed("query", config, asked, camera, extra + 1)
    return query, tuple(_placed("queries", config, test[0], other, extra + number) for number in range(1, 4))


def _gallery(config: DemoConfig) -> Iterator[Shot]:
    """One more shot of each test person in each of their cameras."""
    for person in range(config.training_people, config.people):
        for camera in counts_of(config, person):
            yield _placed("gallery", config, person, camera, _beyond(config))


def _placed(folder: str, config: DemoConfig, person: int, camera: int, number: int) -> Shot:
    """A shot in one of the folders with Market-1501-style names."""
    label = person + config.first_number, camera + 1
    return Shot(f"{folder}/{market_name(label, number)}", person, camera, number, label)
