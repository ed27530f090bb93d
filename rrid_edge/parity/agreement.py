"""Agreement of two sets of descriptors of the same images: as vectors and as rankings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError

Descriptors = NDArray[np.float32]

TIE = 2e-6
"""Largest difference of two reference scores that counts as a tie: float32 rounding is of this size."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of descriptors with a reference, over N images.

    Attributes:
        images: N.
        min_cosine: lowest cosine of an image's descriptor with the reference.
        p1_cosine: 1st percentile of the cosines.
        mean_cosine: mean of the cosines.
        max_abs_difference: largest absolute difference of one value.
        worst_block: name of the descriptor block with the lowest mean cosine.
        worst_block_cosine: mean cosine of this block.
        worst_image: index of the image with the lowest cosine.
        top1_agreement: share of images whose nearest neighbour is the reference's, or tied with it (:data:`TIE`).
        top10_agreement: mean share of the 10 nearest neighbours that are among the reference's 10, or tied with them.
        top10_identical: True if the first 10 positions of every ranking are the reference's, except for ties.
        kendall_tau: mean Kendall rank correlation of the two rankings of the other images, in [-1, 1].
    """

    images: int
    min_cosine: float
    p1_cosine: float
    mean_cosine: float
    max_abs_difference: float
    worst_block: str
    worst_block_cosine: float
    worst_image: int
    top1_agreement: float
    top10_agreement: float
    top10_identical: bool
    kendall_tau: float


def compare(reference: Descriptors, other: Descriptors, blocks: tuple[str, ...]) -> Agreement:
    """Compare two sets of descriptors: row by row, and as rankings of all other images for each image.

    Args:
        reference: float32 (N, D).
        other: float32 (N, D), the same images in the same order.
        blocks: names of the D / width blocks, in order.

    Raises:
        UsageError: the shapes differ, there are fewer than two images, or a value is not finite.
    """
    if reference.shape != other.shape or reference.ndim != 2 or len(reference) < 2:
        raise UsageError(
            f"descriptors of shapes {reference.shape} and {other.shape} cannot be compared: expected one shape (N, D) "
            "with N of at least 2"
        )
    if not (np.isfinite(reference).all() and np.isfinite(other).all()):
        raise UsageError("a descriptor holds NaN or infinity; expected finite values: the model is damaged")
    cosines = row_cosines(reference, other)
    by_block = _block_cosines(reference, other, len(blocks))
    worst = int(by_block.argmin())
    similarity = _similarity(reference)
    ranks_reference, ranks_other = _order(similarity), rankings(other)
    depth = min(10, ranks_reference.shape[1])
    # The reference's scores of the first images in both rankings: (N, depth) each.
    own = np.take_along_axis(similarity, ranks_reference[:, :depth], axis=1)
    theirs = np.take_along_axis(similarity, ranks_other[:, :depth], axis=1)
    return Agreement(
        images=len(reference),
        min_cosine=float(cosines.min()),
        p1_cosine=float(np.percentile(cosines, 1)),
        mean_cosine=float(cosines.mean()),
        max_abs_difference=float(np.abs(reference - other).max()),
        worst_block=blocks[worst],
        worst_block_cosine=float(by_block[worst]),
        worst_image=int(cosines.argmin()),
        top1_agreement=float((theirs[:, 0] >= own[:, 0] - TIE).mean()),
        top10_agreement=float((theirs >= own[:, -1:] - TIE).mean()),
        top10_identical=bool((np.abs(theirs - own) <= TIE).all()),
        kendall_tau=float(np.mean([_kendall(one, two) for one, two in zip(ranks_reference, ranks_other, strict=True)])),
    )


def row_cosines(one: Descriptors, two: Descriptors) -> NDArray[np.float64]:
    """Cosine of each pair of rows, computed in float64; 0 where a row is all zero."""
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", unit_rows(one), unit_rows(two))
    return cosines


def unit_rows(descriptors: Descriptors) -> NDArray[np.float64]:
    """Rows scaled to unit length, in float64; a row of zeros stays zero."""
    values = descriptors.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = values / np.where(lengths > 0, lengths, 1)
    return scaled


def rankings(descriptors: Descriptors) -> NDArray[np.int64]:
    """Indices of all other images per image, nearest first, equal scores by index: int64 (N, N - 1)."""
    return _order(_similarity(descriptors))


def _similarity(descriptors: Descriptors) -> NDArray[np.float64]:
    """Cosine of every two images, minus infinity on the diagonal: float64 (N, N)."""
    values = unit_rows(descriptors)
    similarity: NDArray[np.float64] = values @ values.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity


def _order(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(-similarity, axis=1, kind="stable")[:, :-1]
    return order


def _block_cosines(reference: Descriptors, other: Descriptors, count: int) -> NDArray[np.float64]:
    """Mean cosine of each of ``count`` blocks: float64 (count,)."""
    width = reference.shape[1] // count
    return np.array(
        [
            row_cosines(reference[:, start : start + width], other[:, start : start + width]).mean()
            for start in range(0, count * width, width)
        ]
    )


def _kendall(one: NDArray[np.int64], two: NDArray[np.int64]) -> float:
    """Kendall's tau of two orders of the same items, without ties: 1 - 2 * share of inverted pairs."""
    if len(one) < 2:
        return 1.0
    position = np.empty(int(one.max()) + 1, np.int64)
    position[two] = np.arange(len(two))
    sequence = position[one]
    inverted = int(sum((sequence[index + 1 :] < value).sum() for index, value in enumerate(sequence[:-1])))
    return 1 - 4 * inverted / (len(one) * (len(one) - 1))
