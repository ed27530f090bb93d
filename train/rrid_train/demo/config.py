"""Settings of a demo dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from rrid_edge.errors import UsageError

BENCHMARK_NOISE: Final = 0.005
"""Share of wrong labels in a benchmark whose settings do not tell one."""
MOST_NOISE: Final = 0.2
_LIMITS: Final = {"seed": (0, 2**31 - 1), "people": (6, 9999), "cameras": (2, 32), "images_per_camera": (2, 49)}


@dataclass(frozen=True)
class DemoConfig:
    """Settings of one demo dataset.

    With ``junk`` or ``distractors`` it is a benchmark, which is as hard as a real one:

    - half of the people are test people, and numbers begin with 1, as 0 means distractor;
    - people miss some cameras, and have 1 to ``2 * images_per_camera`` images in the others;
    - groups of people wear the same clothes, and boxes, light, sharpness and passers-by vary as in real detections.

    Attributes:
        seed: seed of all random choices.
        people: number of people; a third of them (rounded down) are test people, in a benchmark half of them.
        cameras: number of cameras; each person appears in all of them.
        images_per_camera: images per person and camera; the first one of a test person is a query.
        junk: add bad boxes of test people to the gallery, with label -1.
        distractors: add strangers and false detections to the gallery, with label 0.
        label_noise: share of the images with a wrong person or camera; None is :data:`BENCHMARK_NOISE` in a
            benchmark, and 0 otherwise.

    Raises:
        UsageError: a value is out of range.
    """

    seed: int = 0
    people: int = 120
    cameras: int = 6
    images_per_camera: int = 3
    junk: bool = False
    distractors: bool = False
    label_noise: float | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise UsageError(
                    f"{name.replace('_', ' ')} {value} does not work: expected {least} to {most}", parameter=name
                )
        if not (math.isfinite(self.noise) and 0 <= self.noise <= MOST_NOISE):
            raise UsageError(
                f"label noise {self.noise} does not work: expected a share of 0 to {MOST_NOISE}",
                parameter="label_noise",
            )

    @property
    def benchmark(self) -> bool:
        """Whether the dataset is as hard as a real benchmark."""
        return self.junk or self.distractors

    @property
    def noise(self) -> float:
        """Share of the images with a wrong label."""
        if self.label_noise is not None:
            return self.label_noise
        return BENCHMARK_NOISE if self.benchmark else 0.0

    @property
    def test_people(self) -> int:
        """Number of people for testing; they have the highest numbers."""
        return self.people // 2 if self.benchmark else self.people // 3

    @property
    def training_people(self) -> int:
        """Number of people for training; they have the lowest numbers."""
        return self.people - self.test_people

    @property
    def first_number(self) -> int:
        """Number of the first person in the lists. In a benchmark 0 means distractor."""
        return 1 if self.benchmark else 0
