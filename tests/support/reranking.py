"""A slow k-reciprocal re-ranking with dense matrices, to compare with."""

from __future__ import annotations

import numpy as np


def dense_reranking(query, gallery, k1, k2, share):
    """Re-rank by Zhong et al., CVPR 2017, section 3, with full matrices and loops."""
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
