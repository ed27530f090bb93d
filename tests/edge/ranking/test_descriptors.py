"""Arithmetic on descriptors, against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.descriptors import block_shares, block_shares_of, mean_descriptor


def _unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_the_mean_descriptor_has_unit_length():
    one, two = _unit([1.0, 0, 0]), _unit([0, 1.0, 0])
    np.testing.assert_allclose(mean_descriptor(np.stack([one, two])), _unit([[1.0, 1, 0]]), atol=1e-7)
    with pytest.raises(UsageError, match=r"mean of 2 descriptors has length 0.*contradict each other"):
        mean_descriptor(np.stack([one, -one]))


def test_block_shares_sum_to_the_cosine():
    generator = np.random.default_rng(0)
    query, crop = _unit(generator.standard_normal(60)), _unit(generator.standard_normal(60))
    shares = block_shares(query, crop, 15)
    assert sum(shares) == pytest.approx(float(query @ crop), abs=1e-6)
    assert shares[3] == pytest.approx(float(query[12:16] @ crop[12:16]), abs=1e-6)


def test_block_shares_of_many_pairs_are_those_of_each_pair():
    queries, crops = np.random.default_rng(3).standard_normal((2, 300, 60)).astype(np.float32)
    found = block_shares_of(queries, crops, 15)
    assert found == [block_shares(query, crop, 15) for query, crop in zip(queries, crops, strict=True)]
    by_hand = [float(np.dot(queries[299, 4 * n : 4 * n + 4], crops[299, 4 * n : 4 * n + 4])) for n in range(15)]
    np.testing.assert_allclose(found[299], by_hand, atol=1e-5)
    assert block_shares_of(queries[:0], crops[:0], 15) == []
