"""Label noise: some images get a wrong person or a wrong camera, as in real datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rrid_train.demo.config import DemoConfig
from rrid_train.demo.people import Crowd
from rrid_train.demo.shots import Shot

_NOISE_STREAM = 6
_MISTAKEN = 0.5
"""Share of the wrong persons who look like the right one: a near-twin, or one of the group."""


def with_wrong_labels(shots: Sequence[Shot], config: DemoConfig, crowd: Crowd) -> list[Shot]:
    """The shots, some with a wrong person (half of them) or a wrong camera in their label.

    Queries keep their labels, and so do the first two images of each person and camera. So each query has a right
    answer in another camera. Training and test people are not mixed up.
    """
    generator = np.random.default_rng([config.seed, _NOISE_STREAM])
    places = [place for place, shot in enumerate(shots) if shot.number >= 2]
    wrong = min(round(config.noise * len(shots)), len(places))
    alike = _alike(crowd)
    labelled = list(shots)
    for turn, place in enumerate(generator.permutation(places)[:wrong].tolist()):
        shot = shots[place]
        person, camera = shot.label
        if turn % 2 == 0:
            person = _another_person(shot.person, config, alike, generator) + config.first_number
        else:
            camera = (camera - 1 + int(generator.integers(1, config.cameras))) % config.cameras + 1
        labelled[place] = replace(shot, label=(person, camera))
    return labelled


def _alike(crowd: Crowd) -> dict[int, tuple[int, ...]]:
    """The people whom each person is easily taken for."""
    sets = [*(pair.people for pair in crowd.twins), *crowd.groups]
    return {person: tuple(other for other in same if other != person) for same in sets for person in same}


def _another_person(
    person: int, config: DemoConfig, alike: dict[int, tuple[int, ...]], generator: np.random.Generator
) -> int:
    training = config.training_people
    side = range(training) if person < training else range(training, config.people)
    similar = alike.get(person, ())
    if similar and generator.random() < _MISTAKEN:
        return similar[int(generator.integers(len(similar)))]
    others = [other for other in side if other != person]
    return others[int(generator.integers(len(others)))]
