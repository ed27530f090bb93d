"""k-reciprocal re-ranking: against stored values and a dense implementation of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.ranking.rerank import RerankSettings, k_reciprocal
from support.reference import DATA
from support.reranking import dense_reranking


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (6, 3, 0.3), (20, 1, 0.3)])
def test_distances_equal_the_stored_values(k1, k2, share):
    with np.load(DATA / "reranking.npz") as stored:
        found = k_reciprocal(stored["query"], stored["gallery"], RerankSettings(k1, k2, share))
        np.testing.assert_allclose(found, stored[f"k{k1}_{k2}_{share}"], atol=1e-5)


def _unit(count, seed):
    """Descriptors in clusters, so that reciprocal neighbours exist."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((9, 24))
    values = centres[generator.integers(0, 9, count)] + 0.6 * generator.standard_normal((count, 24))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2", "share"), [(8, 3, 0.3), (5, 1, 0.0), (12, 4, 1.0)])
def test_distances_equal_the_dense_implementation(k1, k2, share):
    query, gallery = _unit(12, 1), _unit(70, 2)
    found = k_reciprocal(query, gallery, RerankSettings(k1, k2, share))
    assert found.shape == (12, 70)
    np.testing.assert_allclose(found, dense_reranking(query, gallery, k1, k2, share), atol=1e-5)


@pytest.mark.parametrize("options", [{"k1": 0}, {"k2": 0}, {"lambda_value": 2.0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        k_reciprocal(_unit(3, 0), _unit(9, 1), RerankSettings(**options))


def test_descriptors_of_different_lengths_are_refused():
    with pytest.raises(UsageError):
        k_reciprocal(_unit(3, 0), _unit(9, 1)[:, :5])
