"""The threshold above which two crops may show one person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.paging import ListedMoment
from rrid_edge.model.names import thresholds_candidates
from rrid_edge.model.spec import ModelSpec
from rrid_edge.ranking.threshold_file import find_thresholds

RATES: Final = (1e-4, 1e-3, 1e-2)
"""False-positive rates per pair whose threshold groups take: the first that was measured."""
_SAMPLE = 256
_SPREADS = 4.0
_HIGHEST = 0.98
_CLEAR_CUT, _CUT_PAIRS = 0.8, 45
_WITHOUT_SAMPLE = 0.7


@dataclass(frozen=True)
class GroupThreshold:
    """The mean cosine from which crops are suggested as one person.

    Attributes:
        score: the cosine.
        kind: ``fpr`` if it was measured for the model, ``estimated`` if it comes from the gallery's own scores.
        rate: the false-positive rate per pair, or None.
        dataset: name of the dataset it was measured on, or None.
    """

    score: float
    kind: Literal["fpr", "estimated"]
    rate: float | None = None
    dataset: str | None = None


def group_threshold(moment: Moment, spec: ModelSpec, model: Path | None) -> GroupThreshold:
    """The threshold of a model, as it was measured, or an estimate from a sample of the gallery.

    The estimate takes the cosines of all pairs among 256 rows; see :func:`estimated_score`.

    Args:
        moment: of the gallery.
        spec: of its model.
        model: the model file, beside which thresholds lie; None for unknown.

    Raises:
        ModelFileError: a file of thresholds is damaged.
    """
    found = None if model is None else find_thresholds(thresholds_candidates(model), spec.fingerprint)
    for rate in RATES if found is not None else ():
        try:
            assert found is not None
            return GroupThreshold(found.pair_score(rate), "fpr", rate, found.record.dataset)
        except UsageError:
            continue  # too few pairs for this rate
    ids = row_ids(moment)
    chosen = ids[np.linspace(0, len(ids) - 1, min(len(ids), _SAMPLE)).astype(int)]
    sample = sorted(moment.rows_by_id(chosen.tolist()), key=lambda row: row.id)
    if len(sample) < 3:
        return GroupThreshold(_WITHOUT_SAMPLE, "estimated")
    vectors = moment.vectors(sample)
    return GroupThreshold(estimated_score((vectors @ vectors.T)[np.triu_indices(len(sample), 1)]), "estimated")


def estimated_score(scores: NDArray[np.float32]) -> float:
    """A threshold between pairs of two people and pairs of one, from the scores of a sample.

    Usually nearly all pairs show two people. With their median m and the distance s from m down to their 16th
    percentile, which pairs of one person do not change, the threshold is m + 4 s: four standard deviations if the
    cosines of two people are normally distributed. It is at most 0.98.

    In a gallery of few people, pairs of one person are many. If a cut in two explains at least 0.8 of the variance of
    at least 45 scores, the threshold is that cut (Otsu, 1979). One normal distribution gives 0.64.

    Args:
        scores: float32 (pairs,): cosines, at least one.
    """
    ordered = np.sort(scores.astype(np.float64))
    low, median = np.percentile(ordered, [16, 50])
    score = min(median + _SPREADS * (median - low), _HIGHEST)
    count = np.arange(1, len(ordered))
    below, total = np.cumsum(ordered)[:-1], ordered.sum()
    means = below / count, (total - below) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (means[1] - means[0]) ** 2 / len(ordered) ** 2
    if len(scores) >= _CUT_PAIRS and between.max() >= _CLEAR_CUT * ordered.var():
        best = int(between.argmax())
        score = min(score, float(ordered[best] + ordered[best + 1]) / 2)
    return float(score)


def row_ids(moment: Moment) -> NDArray[np.int64]:
    """Ids of all live rows, ascending: int64 (rows,)."""
    if isinstance(moment, ListedMoment):
        ids = np.sort(moment.ids())
        return ids[ids >= 0]  # damaged entries have -1
    return np.array(sorted(row.id for row in moment.rows()), np.int64)
