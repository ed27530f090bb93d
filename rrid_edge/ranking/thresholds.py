"""Thresholds per pair: the lowest cosine at which two crops count as one person.

They are measured on labelled pairs. A *genuine* pair shows one person in two cameras. An *impostor* pair shows two
people; distractors are other people than any query's. The threshold of a false-positive rate (FPR) is the lowest score
that at most this share of the impostor pairs reaches. The true-positive rate (TPR) is the share of genuine pairs that
reach it.

A search among N crops makes N pairs. At FPR 1e-4, a gallery of 20,000 other people gives two false matches on average.
:mod:`rrid_edge.ranking.search_thresholds` has thresholds per search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import JUNK_PERSON, LabelledCrops, Labels

FALSE_POSITIVE_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_PAIRS_AT_LEAST = 10
"""Impostor pairs that reach a threshold. Fewer say little about its rate."""
_QUERY_BLOCK = 256
_KEPT_FACTOR = 4
MOST_COSINE = 1.001
"""Largest cosine, with the rounding of float32."""


@dataclass(frozen=True)
class Threshold:
    """One operating point.

    Attributes:
        fpr: the false-positive rate, in (0, 1).
        score: lowest cosine of a match; None if there were fewer than 10 / fpr impostor pairs.
        tpr: share of the genuine pairs that reach ``score``, in [0, 1]; None if ``score`` is None.
    """

    fpr: Annotated[float, Meta(gt=0, lt=1)]
    score: Annotated[float, Meta(ge=-MOST_COSINE, le=MOST_COSINE)] | None
    tpr: Annotated[float, Meta(ge=0, le=1)] | None


@dataclass(frozen=True)
class PairThresholds:
    """Operating points per pair on one dataset.

    Attributes:
        genuine_pairs: number of pairs of one person in two cameras.
        impostor_pairs: number of pairs of two people.
        points: one point per rate, in ascending order of the rates.
    """

    genuine_pairs: Annotated[int, Meta(ge=0)]
    impostor_pairs: Annotated[int, Meta(ge=0)]
    points: tuple[Threshold, ...]

    def __post_init__(self) -> None:
        rates = [point.fpr for point in self.points]
        if rates != sorted(set(rates)):
            raise ValueError("the rates are not in ascending order")
        if any((point.score is None) != (point.tpr is None) for point in self.points):
            raise ValueError("a score without a true-positive rate, or the reverse")

    def score(self, fpr: float) -> float:
        """The lowest cosine of a match at a false-positive rate, which must be one of the measured rates.

        Raises:
            UsageError: the rate was not measured, or there were too few pairs.
        """
        missing = f"a false-positive rate of {fpr:g} per pair was not measured"
        for point in self.points:
            if math.isclose(point.fpr, fpr, rel_tol=1e-6):
                if point.score is None:
                    raise UsageError(
                        f"{missing}: there were {self.impostor_pairs:,} impostor pairs, and a rate of {fpr:g} needs "
                        f"{needed_pairs(fpr):,}; take a higher rate or evaluate on more data",
                        parameter="fpr",
                    )
                return point.score
        known = ", ".join(f"{point.fpr:g}" for point in self.points)
        measured = f"expected one of {known}" if known else "no rate was measured"
        raise UsageError(f"{missing}: {measured}; add it with: rrid-edge evaluate --fpr {fpr:g}", parameter="fpr")


def needed_pairs(fpr: float) -> int:
    """Impostor pairs that a false-positive rate needs: ten of them reach its threshold."""
    return math.ceil(_PAIRS_AT_LEAST / fpr - 1e-6)


def count_pairs(query: Labels, gallery: Labels, *, same_camera: bool = False) -> tuple[int, int]:
    """Genuine and impostor pairs of labels, as :func:`measure_thresholds` counts them.

    Raises:
        UsageError: ``same_camera`` is set, but the labels have no sequences.
    """
    kept = gallery[gallery.persons != JUNK_PERSON]
    views, known = kept.views(same_camera), query.persons != JUNK_PERSON
    genuine = impostors = 0
    for person, view in zip(query.persons[known], query.views(same_camera)[known], strict=True):
        same = kept.persons == person
        impostors += len(kept) - int(np.count_nonzero(same))
        genuine += int(np.count_nonzero(views[same] != view))
    return genuine, impostors


def measure_thresholds(
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
    same_camera: bool = False,
) -> PairThresholds:
    """Measure operating points on labelled descriptors.

    Pairs of one person in one camera, and pairs with junk (-1), are left out. With ``same_camera``, only pairs of one
    sequence or file are left out in place of pairs of one camera. Memory holds one block of queries, all genuine
    scores, and the highest impostor scores that the largest rate needs.

    Args:
        query: the queries.
        gallery: the gallery.
        rates: false-positive rates, in (0, 1).
        same_camera: count pairs of one person in one camera too; labels need ``sequences``.

    Raises:
        UsageError: a rate is out of range, or there is no genuine or no impostor pair.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise UsageError(
            f"false-positive rates {list(rates)} do not work: expected numbers between 0 and 1, for example 1e-4",
            parameter="fpr",
        )
    kept = gallery.labels.persons != JUNK_PERSON
    persons, views = gallery.labels.persons[kept], gallery.labels[kept].views(same_camera)
    asked = query.labels.persons[query.labels.persons != JUNK_PERSON]
    impostors = int(sum(np.count_nonzero(persons != person) for person in asked))
    pairs = _Pairs(most=math.floor(max(rates) * impostors) + 1)
    columns = np.ascontiguousarray(gallery.descriptors[kept].T, dtype=np.float32)
    for start in range(0, len(query), _QUERY_BLOCK):
        rows = slice(start, start + _QUERY_BLOCK)
        labels = query.labels[rows]
        scores = query.descriptors[rows].astype(np.float32, copy=False) @ columns
        known = (labels.persons != JUNK_PERSON)[:, None]
        same = labels.persons[:, None] == persons
        pairs.add(scores[known & same & (labels.views(same_camera)[:, None] != views)], scores[known & ~same])
    genuine, highest = pairs.finished()
    if not len(genuine) or not impostors:
        two = "two sequences or files" if same_camera else "two cameras"
        missing = f"one person in {two}" if not len(genuine) else "two people"
        raise UsageError(f"no pairs of {missing}: thresholds need at least one; check persons and cameras")
    points = tuple(_point(rate, genuine, highest, impostors) for rate in sorted(set(rates)))
    return PairThresholds(len(genuine), impostors, points)


class _Pairs:
    """Scores of all genuine pairs, and the highest scores of impostor pairs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._genuine: list[NDArray[np.float32]] = []
        self._highest: list[NDArray[np.float32]] = []
        self._held = 0

    def add(self, genuine: NDArray[np.float32], impostor: NDArray[np.float32]) -> None:
        self._genuine.append(genuine)
        self._highest.append(_largest(impostor, self._most))
        self._held += len(self._highest[-1])
        if self._held > _KEPT_FACTOR * self._most:
            self._highest = [_largest(np.concatenate(self._highest), self._most)]
            self._held = len(self._highest[0])

    def finished(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """All genuine scores, unordered, and the highest impostor scores in descending order."""
        highest = _largest(np.concatenate(self._highest), self._most) if self._highest else np.empty(0, np.float32)
        genuine = np.concatenate(self._genuine) if self._genuine else np.empty(0, np.float32)
        return genuine, np.sort(highest)[::-1]


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return values if len(values) <= count else np.partition(values, len(values) - count)[-count:]


def _point(rate: float, genuine: NDArray[np.float32], highest: NDArray[np.float32], impostors: int) -> Threshold:
    allowed = math.floor(rate * impostors + 1e-9)
    if impostors < needed_pairs(rate):
        return Threshold(rate, None, None)
    # Just above the highest impostor score that must not pass, so that no tied score passes either.
    score = float(np.nextafter(highest[allowed], np.float32(2))) if allowed < len(highest) else -1.0
    return Threshold(rate, score, float(np.count_nonzero(genuine >= np.float32(score)) / len(genuine)))
