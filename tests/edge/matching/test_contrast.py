"""Tests of contrasts: against plain loops, and of the sample and the regions."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.matching.contrast import ContrastSample, region_of, sampled
from rrid_edge.ranking.descriptors import block_shares

SPEC = fake_spec(block_width=4)
BLOCKS = len(SPEC.blocks)


def _vectors(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_contrasts_equal_plain_loops():
    query, sample = _vectors(1, 1)[0], _vectors(40, 2)
    shares = block_shares(query, _vectors(1, 3)[0], BLOCKS)
    found = ContrastSample(SPEC, sample).usual_shares(query).contrasts(shares)
    assert [one.name for one in found] == list(SPEC.blocks)
    for block, one in enumerate(found):
        own = [block_shares(query, crop, BLOCKS)[block] for crop in sample]
        mean = sum(own) / len(own)
        spread = (sum((value - mean) ** 2 for value in own) / len(own)) ** 0.5
        assert one.share == shares[block]
        assert one.usual == pytest.approx(mean, abs=1e-6)
        assert one.spread == pytest.approx(spread, abs=1e-6)
        assert one.contrast == pytest.approx((shares[block] - mean) / spread, rel=1e-4)


def test_few_crops_tell_nothing_usual():
    query = _vectors(1, 1)[0]
    found = ContrastSample(SPEC, _vectors(3, 2)).usual_shares(query).contrasts([0.1] * BLOCKS)
    assert {(one.usual, one.spread, one.contrast) for one in found} == {(None, None, None)}
    empty = ContrastSample(SPEC, _vectors(0, 2)).usual_shares(query).contrasts([0.1] * BLOCKS)
    assert {one.contrast for one in empty} == {None}


def test_equal_crops_have_no_contrast():
    query = _vectors(1, 1)[0]
    found = ContrastSample(SPEC, np.repeat(_vectors(1, 2), 12, axis=0)).usual_shares(query).contrasts([0.1] * BLOCKS)
    assert {one.contrast for one in found} == {None}
    assert all(one.usual is not None for one in found)


def test_the_regions_follow_the_body_from_head_to_shoes():
    names = [region_of(f"stripe-{stripe}-of-6") for stripe in range(1, 7)]
    assert names == ["head", "torso", "torso", "legs", "legs", "shoes"]
    assert [region_of(f"stripe-{stripe}-of-4") for stripe in range(1, 5)] == ["head", "torso", "legs", "legs"]
    assert [region_of(f"stripe-{stripe}-of-2") for stripe in range(1, 3)] == ["torso", "legs"]
    assert region_of("global-of-4") == region_of("descriptor") == "body"


def test_the_sample_changes_little_with_the_gallery():
    ids = np.arange(10_000, dtype=np.int64)
    first = sampled(ids)
    assert len(first) == 256
    assert np.all(np.diff(first) > 0)
    np.testing.assert_array_equal(sampled(ids[::-1]), first)
    later = sampled(np.arange(10_100, dtype=np.int64))
    assert len(np.intersect1d(first, later)) >= 240
    np.testing.assert_array_equal(sampled(ids[:5][::-1]), ids[:5])


def test_the_sample_is_spread_over_the_gallery():
    thirds = np.histogram(sampled(np.arange(30_000, dtype=np.int64)), bins=3, range=(0, 30_000))[0]
    assert all(60 <= count <= 110 for count in thirds)  # 85 each, give or take three standard deviations
