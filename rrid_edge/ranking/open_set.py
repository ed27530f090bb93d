"""Open-set identification: how often a search answers with a stranger, and how often it finds the person.

Two rates as in NIST's 1:N evaluations (Grother, Ngan and Hanaoka, NISTIR 8271, 2019, sections 3.1 and 3.2), with crops
in place of enrolled people:

* FPIR(N, T), the false-positive identification rate: the share of searches for an absent person that return at least
  one crop with a score of T or more, in a gallery of N crops.
* TPIR(T), the true-positive identification rate: the share of searches for a present person that return at least one
  right answer with a score of T or more, at any rank. The gallery holds all crops of the person. A larger gallery
  lowers TPIR only because its threshold is higher.

A gallery of N crops is drawn from a search's M impostor crops, each set of N with the same probability. If k of the M
crops reach T, then the draw has none of them with the probability C(M - k, N) / C(M, N) (hypergeometric). So FPIR is
computed as the exact mean over all draws, and no gallery is drawn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.ranking.searches import EXACT_DRAWS, SearchScores


class OpenSetRates:
    """Rates of searches in galleries of one size.

    Args:
        scores: the searches.
        size: crops of the gallery; at most ``scores.largest_size``, and at least ``scores.least_size``.

    Attributes:
        size: crops of the gallery.

    Raises:
        UsageError: the searches cannot be made in such a gallery, or too few of their scores are kept.
    """

    def __init__(self, scores: SearchScores, size: int) -> None:
        if not scores.least_size <= size <= scores.largest_size:
            raise UsageError(
                f"a gallery of {size:,} crops cannot be measured with these searches: expected {scores.least_size:,} "
                f"to {scores.largest_size:,}",
                parameter="size",
            )
        self.size = size
        self._scores = scores
        counts, self._kind = np.unique(scores.impostors, return_inverse=True)
        kept = min(scores.highest.shape[1], math.ceil(EXACT_DRAWS * int(counts.max()) / size))
        self._highest = scores.highest[:, :kept]
        self._clean = np.stack([_no_hit(int(count), size, kept) for count in counts])
        self._ordered: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None

    def each_false_positive(self, score: float) -> NDArray[np.float64]:
        """Per absent search, the share of draws with an answer of ``score`` or more: float64 (S,)."""
        reached = np.count_nonzero(self._highest >= np.float32(score), axis=1)
        share: NDArray[np.float64] = 1 - self._clean[self._kind, reached]
        return share

    def false_positive(self, score: float) -> float:
        """FPIR(N, T) at the threshold ``score``."""
        return float(self.each_false_positive(score).mean())

    def score_at(self, fpir: float) -> float:
        """The lowest threshold at which FPIR is at most ``fpir``."""
        scores, rates = self._curve()
        first = int(np.searchsorted(rates, fpir * (1 + 1e-9), side="right"))
        # Just above the highest score that must not pass, so that no tied score passes either.
        return -1.0 if first >= len(scores) else float(np.nextafter(scores[first], np.float32(2)))

    def people_behind(self, score: float) -> float:
        """People whose searches make up FPIR at ``score``, if all had the same share in it; 0 if there is none.

        It is 1 / (relative standard error of FPIR)**2, with people in place of searches as the independent units.
        """
        each = self.each_false_positive(score)
        _, person = np.unique(self._scores.persons, return_inverse=True)
        error = float(np.sum(np.bincount(person, weights=each - each.mean()) ** 2))
        return float(each.sum()) ** 2 / error if error else 0.0

    def _curve(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """All kept scores, descending, and FPIR where each of them is the threshold."""
        if self._ordered is None:
            share = (self._clean[:, :-1] - self._clean[:, 1:])[self._kind].ravel()
            order = np.argsort(-self._highest, axis=None)
            rates = np.cumsum(share[order]) / len(self._scores)
            self._ordered = self._highest.ravel()[order], rates
        return self._ordered


def true_positive(scores: SearchScores, score: float) -> float | None:
    """TPIR(T) at the threshold ``score``; None if there is no search with a right answer."""
    right = scores.right[~np.isnan(scores.right)]
    return float(np.count_nonzero(right >= np.float32(score)) / len(right)) if len(right) else None


def _no_hit(impostors: int, size: int, kept: int) -> NDArray[np.float64]:
    """Probability that a draw of ``size`` of ``impostors`` crops has none of k certain ones, k = 0 to ``kept``.

    C(M - k, N) / C(M, N) is the product of (M - N - j) / (M - j) over j = 0 to k - 1.
    """
    rest = np.maximum(impostors - np.arange(kept, dtype=np.float64), 1)
    with np.errstate(divide="ignore"):  # log(0) is minus infinity: every draw has one of them
        steps = np.log(np.maximum(rest - size, 0)) - np.log(rest)
    clean: NDArray[np.float64] = np.exp(np.concatenate([[0.0], np.cumsum(steps)]))
    return clean
