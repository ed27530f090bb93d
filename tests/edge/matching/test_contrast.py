"""Tests of contrasts: by hand, against plain loops, and of who counts as another person."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.sampling import RowSample, SampledRow
from rrid_edge.matching.contrast import ContrastSample, UsualBlocks, region_of

SPEC = fake_spec(block_width=4)
BLOCKS = len(SPEC.blocks)


def _vectors(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _rows(*persons: str | None) -> tuple[SampledRow, ...]:
    return tuple(SampledRow.of(person, None, None) for person in persons)


def _slow_distances(query: np.ndarray, crop: np.ndarray) -> list[float]:
    """The distance of each block, in plain loops."""
    width = SPEC.dimension // BLOCKS
    return [
        sum((float(query[place]) - float(crop[place])) ** 2 for place in range(block * width, (block + 1) * width))
        ** 0.5
        for block in range(BLOCKS)
    ]


def test_contrasts_by_hand():
    # Others are 0.1, 0.3, ... away in the first block (mean 0.2, deviation 0.1), 0.5 or 0.9 in the second.
    distances = np.array([[0.1, 0.5], [0.3, 0.9]] * 4, np.float32)
    usual = UsualBlocks.of(("stripe-1-of-2", "stripe-2-of-2"), distances)
    assert [one.usual for one in usual.blocks] == pytest.approx([0.2, 0.7])
    assert [one.spread for one in usual.blocks] == pytest.approx([0.1, 0.2])
    assert [one.region for one in usual.blocks] == ["torso", "legs"]
    assert usual.others == 8
    # The match differs by 0.03 and 0.04 in the first block: the distance is 0.05. The second block is equal.
    query, crop = np.array([[0.6, 0, 0.8, 0]], np.float32), np.array([[0.63, 0.04, 0.8, 0]], np.float32)
    assert usual.contrasts(query, crop)[0] == pytest.approx([1.5, 3.5], rel=1e-4)


def test_contrasts_equal_plain_loops():
    query, sample, crop = _vectors(1, 1)[0], _vectors(40, 2), _vectors(1, 3)[0]
    rows = _rows(*(f"{1000 + place // 4:04d}" for place in range(40)))
    usual = ContrastSample(SPEC, RowSample(rows, sample)).usual_blocks(query[None], "1003")
    others = [_slow_distances(query, vector) for place, vector in enumerate(sample) if place // 4 != 3]
    assert usual.others == len(others) == 36
    assert [one.name for one in usual.blocks] == list(SPEC.blocks)
    means = [sum(column) / len(others) for column in zip(*others, strict=True)]
    spreads = [
        (sum((value - mean) ** 2 for value in column) / len(others)) ** 0.5
        for column, mean in zip(zip(*others, strict=True), means, strict=True)
    ]
    assert [one.usual for one in usual.blocks] == pytest.approx(means, abs=1e-6)
    assert [one.spread for one in usual.blocks] == pytest.approx(spreads, rel=1e-4)
    own = _slow_distances(query, crop)
    expected = [(mean - one) / spread for mean, one, spread in zip(means, own, spreads, strict=True)]
    assert usual.contrasts(query[None], crop[None])[0] == pytest.approx(expected, abs=1e-4)


def _counted(rows: tuple[SampledRow, ...], person: str | None, sample: np.ndarray, query: np.ndarray) -> int:
    return ContrastSample(SPEC, RowSample(rows, sample)).usual_blocks(query[None], person).others


def test_labels_tell_who_is_another_person():
    query, sample = _vectors(1, 1)[0], _vectors(16, 2)
    assert _counted(_rows(*["0001"] * 4, *["0002"] * 12), "0001", sample, query) == 12
    confirmed = (SampledRow.of("0002", "0001", None), *_rows(*["0002"] * 15))
    assert _counted(confirmed, "0001", sample, query) == 15
    # A person by another name may be anyone, so a quarter of the crops leaves.
    named = tuple(SampledRow.of(None, "anna", None) for _ in range(16))
    assert _counted(named, "0001", sample, query) == 12
    strangers = _rows(*["0000"] * 16)  # distractors are nobody's answer
    assert _counted(strangers, None, sample, query) == 16


def test_without_labels_the_best_quarter_is_left_out():
    query, sample = _vectors(1, 1)[0], _vectors(20, 2)
    usual = ContrastSample(SPEC, RowSample(_rows(*[None] * 20), sample)).usual_blocks(query[None])
    kept = sample[np.argsort(sample @ query)[:15]]  # the 5 best of 20 may show the person
    means = np.mean([_slow_distances(query, vector) for vector in kept], axis=0)
    assert usual.others == 15
    assert [one.usual for one in usual.blocks] == pytest.approx(means, abs=1e-6)
    # Of unlabelled crops among labelled ones, only those in the best quarter leave.
    mixed = tuple(SampledRow.of(None if place % 2 else "0002", None, None) for place in range(20))
    best = set(np.argsort(-(sample @ query))[:5].tolist())
    assert _counted(mixed, "0001", sample, query) == 20 - len({place for place in best if place % 2})


def test_each_crop_is_compared_with_the_image_that_it_scores_best_with():
    images, sample = _vectors(3, 1), _vectors(20, 2)
    usual = ContrastSample(SPEC, RowSample(_rows(*["0002"] * 20), sample)).usual_blocks(images, "0001")
    nearest = [max(images, key=lambda image: float(image @ crop)) for crop in sample]
    slow = [_slow_distances(image, crop) for image, crop in zip(nearest, sample, strict=True)]
    assert [one.usual for one in usual.blocks] == pytest.approx(np.mean(slow, axis=0), abs=1e-6)


def test_damaged_descriptors_are_left_out():
    query, sample = _vectors(1, 1)[0], _vectors(12, 2)
    rows = _rows(*["0002"] * 12)
    sound = ContrastSample(SPEC, RowSample(rows, sample)).usual_blocks(query[None], "0001")
    broken = np.concatenate([sample, _vectors(3, 3)])
    broken[12], broken[13, 5], broken[14] = 0, np.nan, broken[14] * 3
    found = ContrastSample(SPEC, RowSample(rows + _rows(*["0002"] * 3), broken)).usual_blocks(query[None], "0001")
    assert found == sound


@pytest.mark.parametrize("count", [0, 3, 7])
def test_few_crops_tell_nothing_usual(count):
    query = _vectors(1, 1)
    sample = RowSample(_rows(*["0002"] * count), _vectors(count, 2))
    usual = ContrastSample(SPEC, sample).usual_blocks(query, "0001")
    assert [one.name for one in usual.blocks] == list(SPEC.blocks)
    assert {one.usual for one in usual.blocks} == {None}
    assert {one.spread for one in usual.blocks} == {None}
    assert usual.others == count
    assert usual.contrasts(np.repeat(query, 2, axis=0), _vectors(2, 3)) == [(), ()]


def test_equal_crops_have_no_contrast():
    query = _vectors(1, 1)
    sample = RowSample(_rows(*["0002"] * 12), np.repeat(_vectors(1, 2), 12, axis=0))
    usual = ContrastSample(SPEC, sample).usual_blocks(query, "0001")
    assert all(one.usual is not None for one in usual.blocks)
    assert usual.contrasts(query, _vectors(1, 3)) == [(None,) * BLOCKS]


def test_the_regions_follow_the_body_from_head_to_shoes():
    names = [region_of(f"stripe-{stripe}-of-6") for stripe in range(1, 7)]
    assert names == ["head", "torso", "torso", "legs", "legs", "shoes"]
    assert [region_of(f"stripe-{stripe}-of-4") for stripe in range(1, 5)] == ["head", "torso", "legs", "legs"]
    assert [region_of(f"stripe-{stripe}-of-2") for stripe in range(1, 3)] == ["torso", "legs"]
    assert region_of("global-of-4") == region_of("descriptor") == "body"
