"""Agreement of two sets of descriptors of the same images: as vectors and as rankings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.parity.rankings import TIE, Rankings, compare_rankings
from rrid_edge.ranking.labels import Labels

Descriptors = NDArray[np.float32]

EXPLAINED_DEVIATIONS: Final = 3.0
"""Standard deviations of a score gap that the error of the descriptors explains."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of descriptors with a reference, over N images.

    *First answers* are those of :mod:`rrid_edge.parity.rankings`. A changed first answer is *explained* if the
    reference's scores of both answers differ by less than the margin of :func:`explained_margins`.

    Attributes:
        images: N.
        min_cosine: lowest cosine of an image's descriptor with the reference.
        p1_cosine: 1st percentile of the cosines.
        mean_cosine: mean of the cosines.
        max_abs_difference: largest absolute difference of one value.
        worst_block: name of the descriptor block with the lowest mean cosine.
        worst_block_cosine: mean cosine of this block.
        worst_image: index of the image with the lowest cosine.
        pair_error: root mean square error of the cosine of two images.
        answers: images with a first answer.
        changed: first answers that are another image, and not tied with the reference's (:data:`TIE`).
        unexplained: changed first answers whose score gap the error of the descriptors does not explain.
        right_to_wrong: changed first answers that were of the right person and no longer are; 0 without labels.
        wrong_to_right: the reverse; 0 without labels.
        counted: changed first answers that are unexplained or went from right to wrong.
        top1_agreement: share of the first answers that did not change.
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
    pair_error: float
    answers: int
    changed: int
    unexplained: int
    right_to_wrong: int
    wrong_to_right: int
    counted: int
    top1_agreement: float
    top10_agreement: float
    top10_identical: bool
    kendall_tau: float


def compare(
    reference: Descriptors,
    other: Descriptors,
    blocks: tuple[str, ...],
    labels: Labels | None = None,
    *,
    least_cosine: float = -1.0,
) -> Agreement:
    """Compare two sets of descriptors: row by row, and as rankings of all other images for each image.

    Args:
        reference: float32 (N, D).
        other: float32 (N, D), the same images in the same order.
        blocks: names of the D / width blocks, in order.
        labels: labels of the N images; None if they are unknown.
        least_cosine: lowest cosine of a descriptor with its reference that may explain a change.

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
    one, two = unit_rows(reference), unit_rows(other)
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", one, two)
    by_block = _block_cosines(reference, other, len(blocks))
    worst = int(by_block.argmin())
    known = labels if labels is not None and labels.known.any() else None
    ranked = compare_rankings(one.astype(np.float32), two.astype(np.float32), known)
    changes = _changes(ranked, cosines, known, least_cosine)
    asked = ranked.first_reference >= 0
    return Agreement(
        images=len(reference),
        min_cosine=float(cosines.min()),
        p1_cosine=float(np.percentile(cosines, 1)),
        mean_cosine=float(cosines.mean()),
        max_abs_difference=float(np.abs(reference - other).max()),
        worst_block=blocks[worst],
        worst_block_cosine=float(by_block[worst]),
        worst_image=int(cosines.argmin()),
        pair_error=float(np.sqrt(ranked.squared_error)),
        answers=int(asked.sum()),
        **{name: int(mask.sum()) for name, mask in changes.items()},
        top1_agreement=float(1 - changes["changed"].sum() / max(asked.sum(), 1)),
        top10_agreement=float(ranked.top10[asked].mean()) if asked.any() else 1.0,
        top10_identical=bool(ranked.same_order.all()),
        kendall_tau=ranked.kendall_tau,
    )


def explained_margins(
    ranked: Rankings, cosines: NDArray[np.float64], least_cosine: float = -1.0
) -> NDArray[np.float64]:
    """Largest gap of the reference's scores of both first answers that the error of the descriptors explains.

    A descriptor of cosine c with its reference is off by a vector of squared length 2 - 2 c. An isotropic error would
    spread over all dimensions; errors of engines do not. So the share of it that a dot product sees is measured over
    all pairs: q = mean squared error of a pair's cosine / mean of the summed squared lengths of both. The gap of two
    scores of image i, with images a and b, then has the variance q (2 e_i + e_a + e_b), where e are squared lengths.
    The margin is :data:`EXPLAINED_DEVIATIONS` times its root. docs/decisions/parity.md derives it.

    Args:
        ranked: both rankings of N images.
        cosines: float64 (N,): cosine of each descriptor with its reference.
        least_cosine: a descriptor with a lower cosine counts as one of this cosine: larger errors explain nothing.

    Returns:
        float64 (N,).
    """
    errors = 2 - 2 * np.minimum(cosines, 1)
    mean = float(2 * errors.mean())
    seen = ranked.squared_error / mean if mean > 0 else 0.0
    allowed = np.minimum(errors, 2 - 2 * least_cosine)
    summed = 2 * allowed + allowed[ranked.first_reference] + allowed[ranked.first_engine]
    margins: NDArray[np.float64] = EXPLAINED_DEVIATIONS * np.sqrt(seen * summed)
    return margins


def _changes(
    ranked: Rankings, cosines: NDArray[np.float64], labels: Labels | None, least_cosine: float
) -> dict[str, NDArray[np.bool_]]:
    """Masks of the N images, by the names of :class:`Agreement`."""
    one, two = ranked.first_reference, ranked.first_engine
    changed = ranked.lost > TIE
    unexplained = changed & (ranked.lost > explained_margins(ranked, cosines, least_cosine))
    lost, won = np.zeros_like(changed), np.zeros_like(changed)
    if labels is not None:
        persons = labels.persons
        before, after = ((persons > 0) & (persons == persons[answer]) for answer in (one, two))
        lost, won = changed & before & ~after, changed & ~before & after
    return {
        "changed": changed,
        "unexplained": unexplained,
        "right_to_wrong": lost,
        "wrong_to_right": won,
        "counted": unexplained | lost,
    }


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


def _block_cosines(reference: Descriptors, other: Descriptors, count: int) -> NDArray[np.float64]:
    """Mean cosine of each of ``count`` blocks: float64 (count,)."""
    width = reference.shape[1] // count
    return np.array(
        [
            row_cosines(reference[:, start : start + width], other[:, start : start + width]).mean()
            for start in range(0, count * width, width)
        ]
    )
