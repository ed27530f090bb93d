"""Near-twins who differ in one part: the contrasts name it.

``near_twins.npz`` holds descriptors of a demo network, recorded by ``benchmarks/near_twins.py --pairs 36 --record``.
What the right part is follows from the drawings: where the pixels of person and twin differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import near_twins
from rrid_edge.engines.fake import fake_spec
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.plan import plan_demo

RECORDED = Path(__file__).parents[2] / "data" / "near_twins.npz"
PAIRS = 36


@pytest.fixture(scope="module")
def plan():
    return plan_demo(DemoConfig(seed=0))


@pytest.fixture(scope="module")
def pairs(plan):
    return near_twins.drawn_pairs(plan, PAIRS, seed=0)


@pytest.fixture(scope="module")
def differences(plan, pairs):
    """Where the pixels of each pair differ: (cameras, 6) per pair."""
    return [
        np.array([near_twins.pixel_differences(one, other, 6) for one, other in pair.shots(plan)]) for pair in pairs
    ]


def test_pixels_differ_where_the_part_is(pairs, differences):
    """The independent measure itself: shoes are the lowest stripe, hats among the highest, and so on."""
    stripes = {"hat": {0, 1}, "hair": {0, 1}, "upper": {1, 2}, "bag": {1, 2, 3}, "lower": {2, 3, 4}, "shoes": {5}}
    for pair, found in zip(pairs, differences, strict=True):
        total = found.sum(axis=0)
        if total.any():
            assert int(total.argmax()) in stripes[pair.part], pair.part
            assert near_twins.shows_part(int(total.argmax()), total)
    striped = np.broadcast_to(np.repeat(np.arange(6, dtype=np.uint8), 2)[:, None, None], (12, 4, 3))
    black, shaded = (Image.fromarray(np.ascontiguousarray(one)) for one in (np.zeros_like(striped), striped))
    by_hand = near_twins.pixel_differences(black, shaded, 6)
    np.testing.assert_array_equal(by_hand, np.arange(6) * (2 * 4 * 3))  # two rows of four pixels of three values
    assert [near_twins.shows_part(stripe, by_hand) for stripe in range(6)] == [False, False, True, True, True, True]


@pytest.fixture(scope="module")
def recorded(pairs, differences):
    """What is found on the recorded descriptors."""
    with np.load(RECORDED) as stored:
        names, others, shots = tuple(map(str, stored["blocks"])), stored["others"], stored["shots"]
    spec = fake_spec(block_width=shots.shape[-1] // len(names))
    assert spec.blocks == names
    sample = near_twins.others_of(spec, others.astype(np.float32))
    return [
        near_twins.found_on(pair.part, vectors.astype(np.float32), where, sample, names)
        for pair, vectors, where in zip(pairs, shots, differences, strict=True)
        if where.any()
    ]


def test_the_part_in_which_near_twins_differ_has_the_largest_contrast(recorded):
    shares = near_twins.summary(recorded)
    assert len(recorded) >= PAIRS - 3
    assert {"upper", "lower", "shoes", "hat"} <= {one.part for one in recorded}
    assert shares["pairs"] >= 0.8
    assert shares["told apart"] >= 0.8


def test_marks_that_say_so_clearly_are_right_in_single_searches(recorded):
    """A guess is right in a quarter of the searches. Person and twin have the same pose, or each its own."""
    shares = near_twins.summary(recorded)
    assert shares["same: right"] >= 0.75
    assert shares["other: right"] >= 0.6
    assert shares["same: clear right"] >= 0.85
    assert shares["other: clear right"] >= 0.75
    assert min(shares["same: clear"], shares["other: clear"]) >= 0.35
