"""The crops that make a demo dataset a benchmark: unequal numbers of images, junk and distractors.

The shares of junk and distractors are those of Market-1501 (Zheng et al., "Scalable Person Re-identification: A
Benchmark", ICCV 2015): 3,819 and 2,798 of 19,732 gallery crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.pedestrian import pick
from rrid_train.demo.shots import Kind, Shot

_PRESENCE_STREAM, _JUNK_STREAM, _DISTRACTOR_STREAM = 7, 8, 9
_ABSENT: Final = 0.25
"""Probability that a person misses a camera; each person is in two or more."""
_PER_ANSWER: Final = {JUNK_PERSON: 3819 / 13115, DISTRACTOR_PERSON: 2798 / 13115}
"""Crops of each kind per gallery crop of a test person: 19,732 - 3,819 - 2,798 = 13,115."""
_BAD_BOXES: Final[tuple[Kind, ...]] = ("cut", "cut", "two", "two", "shifted", "shifted", "wide", "background")
_FALSE_DETECTIONS: Final[tuple[Kind, ...]] = ("background", "background", "cut", "shifted")
_CROPS_PER_STRANGER: Final = 4


def counts_of(config: DemoConfig, person: int) -> dict[int, int]:
    """Number of images of a person per camera."""
    if not config.benchmark:
        return dict.fromkeys(range(config.cameras), config.images_per_camera)
    generator = np.random.default_rng([config.seed, _PRESENCE_STREAM, person])
    order, absent = generator.permutation(config.cameras), generator.random(config.cameras) < _ABSENT
    counts = generator.integers(1, 2 * config.images_per_camera + 1, config.cameras)
    seen = {*order[:2].tolist(), *np.flatnonzero(~absent).tolist()}
    return {camera: int(counts[camera]) for camera in sorted(seen)}


def extra_crops(config: DemoConfig, answers: int, start: int = 0) -> list[Shot]:
    """Junk and distractors for a gallery with ``answers`` crops of test people. Their names are empty.

    Args:
        config: which of both to draw.
        answers: number of the gallery's crops of test people.
        start: number of the first shot, so that two galleries show different crops of the same strangers.
    """
    shots: list[Shot] = []
    if config.junk:
        shots += [_junk(config, start + index) for index in range(round(_PER_ANSWER[JUNK_PERSON] * answers))]
    if config.distractors:
        count = round(_PER_ANSWER[DISTRACTOR_PERSON] * answers)
        shots += [
            _distractor(config, config.people + index // (2 * _CROPS_PER_STRANGER), start + index)
            for index in range(count)
        ]
    return shots


def strangers_of(shots: Sequence[Shot], config: DemoConfig) -> int:
    """Number of strangers who are in the shots."""
    return max((shot.person - config.people + 1 for shot in shots), default=0)


def _junk(config: DemoConfig, number: int) -> Shot:
    """A bad box of a test person, in one of their cameras."""
    generator = np.random.default_rng([config.seed, _JUNK_STREAM, number])
    person = int(generator.integers(config.training_people, config.people))
    camera = pick(generator, tuple(counts_of(config, person)))
    return Shot("", person, camera, number, (JUNK_PERSON, camera + 1), pick(generator, _BAD_BOXES))


def _distractor(config: DemoConfig, stranger: int, number: int) -> Shot:
    """A crop of a stranger; every second one is a false detection: no person, or too little of one."""
    generator = np.random.default_rng([config.seed, _DISTRACTOR_STREAM, number])
    camera = int(generator.integers(config.cameras))
    kind = "person" if number % 2 == 0 else pick(generator, _FALSE_DETECTIONS)
    return Shot("", stranger, camera, number, (DISTRACTOR_PERSON, camera + 1), kind)
