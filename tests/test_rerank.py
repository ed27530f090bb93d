"""k-reciprocal re-ranking against the stored values and a direct, dense transcription of the paper."""

from __future__ import annotations

import numpy as np
import pytest

from reference import DATA
from rrid_edge.errors import UsageError
from rrid_edge.ranking.rerank import k_reciprocal


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (6, 3, 0.3), (20, 1, 0.3)])
def test_equals_the_stored_values(k1, k2, share):
    with np.load(DATA / "reranking.npz") as stored:
        found = k_reciprocal(stored["query"], stored["gallery"], k1=k1, k2=k2, lambda_value=share)
        np.testing.assert_allclose(found, stored[f"k{k1}_{k2}_{share}"], atol=1e-5)


def _unit(count, seed):
    """Descriptors in clusters, so that reciprocal neighbours exist."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((9, 24))
    values = centres[generator.integers(0, 9, count)] + 0.6 * generator.standard_normal((count, 24))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def dense_reranking(query, gallery, k1, k2, share):
    """Zhong et al., CVPR 2017, section 3, with full matrices and loops."""
    everything = np.concatenate([query, gallery]).astype(np.float64)
    count = len(everything)
    distances = np.clip(2 - 2 * everything @ everything.T, 0, None)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(index, size):
        return [other for other in order[index, : size + 1] if index in order[other, : size + 1]]

    weights = np.zeros((count, count))
    for index in range(count):
        own = reciprocal(index, k1)
        expanded = list(own)
        for candidate in own:
            theirs = reciprocal(candidate, round(k1 / 2))
            if len(set(theirs) & set(own)) > 2 / 3 * len(theirs):
                expanded += theirs
        expanded = sorted(set(expanded))
        values = np.exp(-distances[index, expanded])
        weights[index, expanded] = values / values.sum()
    if k2 > 1:
        weights = np.stack([weights[order[index, :k2]].mean(axis=0) for index in range(count)])
    result = np.empty((len(query), len(gallery)))
    for one in range(len(query)):
        for two in range(len(gallery)):
            other = len(query) + two
            shared = np.minimum(weights[one], weights[other]).sum()
            jaccard = 1 - shared / (2 - shared)
            result[one, two] = (1 - share) * jaccard + share * distances[one, other]
    return result


@pytest.mark.parametrize(("k1", "k2", "share"), [(8, 3, 0.3), (5, 1, 0.0), (12, 4, 1.0)])
def test_equals_the_dense_transcription(k1, k2, share):
    query, gallery = _unit(12, 1), _unit(70, 2)
    found = k_reciprocal(query, gallery, k1=k1, k2=k2, lambda_value=share)
    assert found.shape == (12, 70)
    np.testing.assert_allclose(found, dense_reranking(query, gallery, k1, k2, share), atol=1e-5)


@pytest.mark.parametrize("options", [{"k1": 0}, {"k2": 0}, {"lambda_value": 2.0}])
def test_settings_that_do_not_work(options):
    with pytest.raises(UsageError):
        k_reciprocal(_unit(3, 0), _unit(9, 1), **options)


def test_descriptors_that_do_not_fit():
    with pytest.raises(UsageError):
        k_reciprocal(_unit(3, 0), _unit(9, 1)[:, :5])
