"""Rankings of the same images by two sets of descriptors: first answers, first ten, and the error of a pair's cosine.

Each image is a query against all others. With labels, the rules of the field hold: crops of the query's person in its
own camera are left out, and crops of unknown person or camera (junk) are neither queries nor answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.ranking.labels import DISTRACTOR_PERSON, Labels

TIE: Final = 2e-6
"""Largest difference of two reference scores that counts as a tie: float32 rounding is of this size."""
DEPTH: Final = 10
_BLOCK: Final = 256
"""Queries per block: scores of 256 queries and 20,000 images are 20 MB."""
_TAU_IMAGES: Final = 200
"""Largest number of rankings that Kendall's tau is the mean of."""

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Rankings:
    """What two rankings of N images have in common.

    Attributes:
        first_reference: int64 (N,): each image's nearest image by the reference; -1 if it has no candidate.
        first_engine: int64 (N,): the same by the engine.
        lost: float64 (N,): reference score of the reference's first answer minus that of the engine's; 0 or larger.
        top10: float64 (N,): share of the engine's first ten that are among the reference's, or tied with them.
        same_order: bool (N,): whether the first ten positions are the reference's, except for ties.
        squared_error: mean squared error of a pair's cosine, over all candidates of all images.
        kendall_tau: mean rank correlation of the two rankings of all others, over at most 200 images, in [-1, 1].
    """

    first_reference: NDArray[np.int64]
    first_engine: NDArray[np.int64]
    lost: NDArray[np.float64]
    top10: NDArray[np.float64]
    same_order: NDArray[np.bool_]
    squared_error: float
    kendall_tau: float


def compare_rankings(reference: Rows, engine: Rows, labels: Labels | None = None) -> Rankings:
    """Compare the rankings of two sets of unit rows; see :class:`Rankings`.

    Memory holds one block of queries against all images.

    Args:
        reference: float32 (N, D), unit length.
        engine: float32 (N, D), unit length: the same images in the same order.
        labels: labels of the N images; None if no image has a known person and camera.
    """
    count = len(reference)
    first = np.full((2, count), -1, np.int64)
    lost, top10, same = np.zeros(count), np.ones(count), np.ones(count, bool)
    total, pairs = 0.0, 0
    for rows, one, two in _blocks(reference, engine, labels):
        kept = np.isfinite(one)
        total += float(np.square(two[kept] - one[kept], dtype=np.float64).sum())
        pairs += int(np.count_nonzero(kept))
        asked = rows[kept.any(axis=1)]
        one, two = one[kept.any(axis=1)], two[kept.any(axis=1)]
        ranked, found = _first(one), _first(two)
        own, theirs = np.take_along_axis(one, ranked, 1), np.take_along_axis(one, found, 1)
        first[:, asked] = ranked[:, 0], found[:, 0]
        lost[asked] = np.maximum(own[:, 0].astype(np.float64) - theirs[:, 0], 0)
        last = np.isfinite(own)
        lowest = np.where(last, own, np.inf).min(axis=1, keepdims=True)
        top10[asked] = np.where(last, theirs >= lowest - TIE, False).sum(axis=1) / last.sum(axis=1)
        with np.errstate(invalid="ignore"):  # places that neither ranking fills
            same[asked] = ((np.abs(theirs - own) <= TIE) | ~last).all(axis=1)
    tau = _mean_kendall(reference, engine)
    return Rankings(first[0], first[1], lost, top10, same, total / max(pairs, 1), tau)


def _blocks(
    reference: Rows, engine: Rows, labels: Labels | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
    """Query indices, and scores of both sides, float32 (queries, N): minus infinity where an image is no candidate."""
    unknown = ~labels.known if labels is not None else np.zeros(len(reference), bool)
    for start in range(0, len(reference), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(reference)))
        one, two = reference[rows] @ reference.T, engine[rows] @ engine.T
        left_out = rows[:, None] == np.arange(len(reference))
        if labels is not None:
            persons, cameras = labels.persons, labels.cameras
            left_out |= (
                (persons[rows, None] > DISTRACTOR_PERSON)
                & (persons[rows, None] == persons)
                & (cameras[rows, None] == cameras)
            )
            left_out |= unknown | unknown[rows, None]
        one[left_out] = two[left_out] = -np.inf
        yield rows, one, two


def _first(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Columns of the highest scores of each row, best first, equal scores by column: int64 (rows, at most 10)."""
    depth = min(DEPTH, scores.shape[1] - 1)
    if scores.shape[1] > 4 * DEPTH:
        least = -np.partition(-scores, depth - 1, axis=1)[:, depth - 1 : depth]
        scores = np.where(scores >= least, scores, -np.inf)
    order: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return order


def rankings(rows: Rows, images: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Indices of all other images per image, nearest first, equal scores by index.

    Args:
        rows: float32 (N, D), unit length.
        images: int64 (M,): the images to rank for; None means all.

    Returns:
        int64 (M, N - 1).
    """
    images = np.arange(len(rows)) if images is None else images
    scores = rows[images] @ rows.T
    scores[np.arange(len(images)), images] = -np.inf
    order: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    return order


def _mean_kendall(reference: Rows, engine: Rows) -> float:
    images = np.unique(np.linspace(0, len(reference) - 1, min(len(reference), _TAU_IMAGES)).astype(np.int64))
    both = zip(rankings(reference, images), rankings(engine, images), strict=True)
    return float(np.mean([_kendall(one, two) for one, two in both]))


def _kendall(one: NDArray[np.int64], two: NDArray[np.int64]) -> float:
    """Kendall's tau of two orders of the same items, without ties: 1 - 2 * share of inverted pairs."""
    if len(one) < 2:
        return 1.0
    position = np.empty(int(one.max()) + 1, np.int64)
    position[two] = np.arange(len(two))
    return 1 - 4 * _inversions(position[one]) / (len(one) * (len(one) - 1))


def _inversions(values: NDArray[np.int64]) -> int:
    """Number of pairs in the wrong order, counted by a merge sort of all pairs of runs at once."""
    size = 1 << (len(values) - 1).bit_length()
    runs = np.concatenate([values, np.arange(len(values), size) + int(values.max()) + 1])
    total, width = 0, 1
    while width < size:
        pairs = runs.reshape(-1, 2 * width)
        order = np.argsort(pairs, axis=1, kind="stable")
        # A value of the second run has as many inversions as values of the first run come after it.
        places = np.nonzero(order >= width)[1].reshape(-1, width)
        total += int((width - (places - np.arange(width))).sum())
        runs = np.take_along_axis(pairs, order, axis=1).reshape(-1)
        width *= 2
    return total
