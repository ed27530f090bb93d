"""Pairs of crops that a person should judge: those whose score is nearest to the threshold."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from rrid_edge.people.links import Links
from rrid_edge.people.suggesting import Suggestions


@dataclass(frozen=True)
class Question:
    """Do two crops show one person?

    Attributes:
        first: id of an unlabelled crop.
        second: id of a crop, unlabelled or of a confirmed person.
        score: their cosine.
    """

    first: int
    second: int
    score: float


def questions(suggestions: Suggestions, links: Links, limit: int) -> list[Question]:
    """The most uncertain pairs first, pairs of two cameras before pairs of one.

    Each pair of groups or people is asked once, and not at all if a verdict is about it. Two confirmed people are no
    question: merging them is. A pair is asked only if its score lies within half the way from the threshold to 1, on
    either side.

    Args:
        suggestions: of a moment.
        links: the verdicts that hold.
        limit: most questions.
    """
    sides = _Sides(suggestions)
    answered = {
        frozenset((sides.of(first), sides.of(second)))
        for first, second in (*links.apart_crops(), *links.unsure, *_pairs_of(links))
    }
    pairs, threshold = suggestions.pairs, suggestions.threshold.score
    distance = np.abs(pairs.scores.astype(np.float64) - threshold)
    near = np.flatnonzero(distance <= (1 - threshold) / 2)
    ids = np.array(suggestions.crops, np.int64)[pairs.first[near]]
    others = pairs.second[near]
    cameras = suggestions.cameras
    same_camera = [
        cameras.get(first) == cameras.get(second) for first, second in zip(ids.tolist(), others.tolist(), strict=True)
    ]
    order = np.lexsort((np.maximum(ids, others), np.minimum(ids, others), distance[near], np.array(same_camera, bool)))
    asked: list[Question] = []
    for index in order.tolist():
        first, second = int(ids[index]), int(others[index])
        pair = frozenset((sides.of(first), sides.of(second)))
        if len(pair) == 1 or pair in answered or second not in cameras:
            continue
        answered.add(pair)
        asked.append(Question(first, second, float(pairs.scores[near[index]])))
        if len(asked) == limit:
            break
    return asked


def _pairs_of(links: Links) -> list[tuple[int, int]]:
    """Pairs of joined crops."""
    return [(crops[0], crop) for crops in links.components() for crop in crops[1:]]


class _Sides:
    """Which group or person a crop belongs to."""

    def __init__(self, suggestions: Suggestions) -> None:
        self._labels = suggestions.labels
        self._groups = {crop: group.crops[0] for group in suggestions.groups for crop in group.crops}

    def of(self, node: int | str) -> Hashable:
        """The side of a crop; a query is a side of its own."""
        if isinstance(node, str):
            return node
        label = self._labels.get(node)
        return ("person", label) if label is not None else ("group", self._groups.get(node, node))
