"""Tell variants apart: mean average precision, separation of pairs, and a paired test over people."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.ranking.labels import DISTRACTOR_PERSON, LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_descriptors
from rrid_edge.ranking.sampling import has_answer

DRAWS: Final = 20_000
"""Draws of the randomisation test: its smallest p value is 5e-5."""
LEVEL: Final = 0.05
"""Largest probability that a difference counts as settled though there is none, over all comparisons."""


def ranking_of(descriptors: NDArray[np.float64], labels: Labels) -> RankingMetrics:
    """Measures with each crop that has a right answer as a query against all others, by the rules of the field.

    Args:
        descriptors: float64 (N, D), unit length.
        labels: labels of the N crops.
    """
    asking = has_answer(labels)
    queries = LabelledCrops(descriptors[asking], labels[asking])
    return evaluate_descriptors(queries, LabelledCrops(descriptors, labels))


def separation(descriptors: NDArray[np.float64], labels: Labels) -> float:
    """How far the scores of genuine pairs lie above those of impostor pairs, in standard deviations.

    It is d' = (mean of genuine - mean of impostors) / sqrt((variance of genuine + variance of impostors) / 2), the
    decidability of Daugman (How Iris Recognition Works, IEEE TCSVT 2004). A genuine pair shows one person in two
    cameras, an impostor pair two people.

    Args:
        descriptors: float64 (N, D), unit length.
        labels: labels of the N crops.

    Returns:
        d'; 0 if all scores are the same.
    """
    scores = descriptors @ descriptors.T
    person = labels.persons > DISTRACTOR_PERSON
    same = (labels.persons[:, None] == labels.persons) & person & person[:, None]
    genuine = scores[same & (labels.cameras[:, None] != labels.cameras)]
    impostors = scores[~same & (person | person[:, None])]
    spread = float(np.sqrt((genuine.var() + impostors.var()) / 2))
    return float(genuine.mean() - impostors.mean()) / spread if spread else 0.0


def person_precision(query_ap: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Mean average precision of each person's queries, by ascending label: float64 (people with a query,).

    Args:
        query_ap: float64 (queries,): average precision per query, as :func:`ranking_of` returns it.
        labels: labels of all crops.
    """
    _, people = np.unique(labels.persons[has_answer(labels)], return_inverse=True)
    means: NDArray[np.float64] = np.bincount(people, weights=query_ap) / np.bincount(people)
    return means


def chance_of(differences: NDArray[np.float64], *, seed: int = 0) -> float:
    """Two-sided p value of a paired randomisation test of a mean difference.

    If two variants were equal, each person's difference could have either sign. The p value is the share of random
    signs whose mean is as far from 0 (Fisher's test; for rankings: Smucker, Allan and Carterette, CIKM 2007). Queries
    of one person depend on each other, so people are the units.

    Args:
        differences: float64 (people,), at least one.
        seed: seed of the signs.
    """
    signs = 1 - 2 * np.random.default_rng([seed, 43]).integers(0, 2, (DRAWS, len(differences)), np.int8)
    seen = abs(float(differences.mean()))
    reached = np.count_nonzero(np.abs(signs @ differences) / len(differences) >= seen - 1e-12)
    return (1 + int(reached)) / (1 + DRAWS)


def corrected(chances: list[float]) -> list[float]:
    """p values corrected for their number (Holm, Scandinavian Journal of Statistics 1979), in the order given."""
    order = np.argsort(chances, kind="stable")
    grown = np.asarray(chances)[order] * np.arange(len(chances), 0, -1)
    found = np.empty(len(chances))
    found[order] = np.minimum(np.maximum.accumulate(grown), 1.0)
    return [float(value) for value in found]
