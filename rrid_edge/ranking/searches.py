"""Scores of searches for labelled people: what open-set identification is measured on.

A *search* takes one crop, the probe, of a known person. Two searches are made of it. In the *absent* search, all crops
of the person are left out of the gallery, so every answer is wrong. In the *present* search, the person's crops of
other cameras are in the gallery, and they are the right answers. Junk (-1) is left out of both. Distractors (0) are
strangers.

Probes are the queries. False positives are rare and come in groups, one per person, so known gallery crops are probes
of absent searches too: each crop is searched among those of all other people.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.ranking.labels import DISTRACTOR_PERSON, JUNK_PERSON, LabelledCrops

MOST_SEARCHES: Final = 4000
"""Searches that are measured, chosen evenly over people. More of one person say little that is new."""
_BLOCK: Final = 256
_MOST_KEPT: Final = 1 << 24
"""Impostor scores that are kept, of all searches together: 64 MiB."""
_LEAST_KEPT: Final = 2048
_KEPT_SHARE: Final = 0.08
EXACT_DRAWS: Final = 8.0
"""Highest crops of a search that a gallery draws on average. It draws none of them with a probability of exp(-8)."""
_NO_SCORE: Final = -2.0


@dataclass(frozen=True)
class SearchScores:
    """Scores of searches, and how many crops they had to choose from.

    Attributes:
        persons: int64 (S,): the probe's person.
        impostors: int64 (S,): crops of other people in the gallery.
        highest: float32 (S, K): the highest impostor scores, descending; -2 fills rows of fewer crops.
        right: float32 (S,): highest score of a right answer; NaN where there is none.
    """

    persons: NDArray[np.int64]
    impostors: NDArray[np.int64]
    highest: NDArray[np.float32]
    right: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.persons)

    @property
    def people(self) -> int:
        """Number of people that were searched for."""
        return len(np.unique(self.persons))

    @property
    def largest_size(self) -> int:
        """Crops of the largest gallery that every absent search can be made in."""
        return int(self.impostors.min(initial=np.iinfo(np.int64).max)) if len(self) else 0

    @property
    def least_size(self) -> int:
        """Crops of the smallest gallery that the kept scores describe, to a relative error below 4e-4."""
        most, kept = int(self.impostors.max(initial=0)), self.highest.shape[1]
        return 1 if kept >= most else math.ceil(EXACT_DRAWS * most / kept)


def measure_searches(
    query: LabelledCrops,
    gallery: LabelledCrops,
    *,
    same_camera: bool = False,
    most_searches: int = MOST_SEARCHES,
    seed: int = 0,
) -> SearchScores:
    """Search the gallery for the people of the queries, and of gallery crops while there are too few queries.

    Memory holds one block of scores and at most 64 MiB of kept scores.

    Args:
        query: the queries. Those without a known person (-1 and 0) are left out.
        gallery: the gallery.
        same_camera: as in :class:`~rrid_edge.ranking.metrics.RankingSettings`: right answers of the probe's own camera
            count too, unless they are of its own sequence or file.
        most_searches: searches, chosen evenly over people.
        seed: of the choice.

    Returns:
        The scores. Probes without a crop of another person in the gallery are left out, so there may be none.
    """
    random = np.random.default_rng(seed)
    asked = _evenly(query.labels.persons, most_searches, random)
    added = _evenly(gallery.labels.persons, most_searches - len(asked), random)
    is_junk = gallery.labels.persons == JUNK_PERSON
    known = gallery.labels.persons[~is_junk]
    people, counts = np.unique(known, return_counts=True)
    own = dict(zip(people.tolist(), counts.tolist(), strict=True))
    if len(people) == 1:  # the person of these crops has no impostor
        alone = int(people[0])
        asked = asked[query.labels.persons[asked] != alone]
        added = added[:0]
    if not len(known):
        asked = asked[:0]
    persons = np.concatenate([query.labels.persons[asked], gallery.labels.persons[added]])
    impostors = len(known) - np.array([own.get(person, 0) for person in persons.tolist()], np.int64)
    highest = np.full((len(persons), _kept(int(impostors.max(initial=0)), len(persons))), _NO_SCORE, np.float32)
    right = np.full(len(persons), np.nan, np.float32)
    views, columns = gallery.labels.views(same_camera), gallery.descriptors.astype(np.float32, copy=False).T
    for place, side, rows in _blocks(query, asked, gallery, added):
        labels, block = side.labels[rows], slice(place, place + len(rows))
        scores = side.descriptors[rows].astype(np.float32, copy=False) @ columns
        same = labels.persons[:, None] == gallery.labels.persons
        if place < len(asked):
            answers = same & (labels.views(same_camera)[:, None] != views)
            best = np.where(answers, scores, _NO_SCORE).max(axis=1)
            right[block] = np.where(answers.any(axis=1), best, np.nan)
        scores[same | is_junk] = _NO_SCORE
        highest[block] = _highest(scores, highest.shape[1])
    return SearchScores(persons, impostors, highest, right)


def split_people(
    query: LabelledCrops, gallery: LabelledCrops, *, seed: int = 0
) -> Iterator[tuple[LabelledCrops, LabelledCrops]]:
    """Split the people of a test set into two random halves, and distractors and junk crop by crop.

    Args:
        query: the queries.
        gallery: the gallery.
        seed: of the choice.

    Yields:
        Queries and gallery of the first half, then those of the second.
    """
    random = np.random.default_rng(seed)
    people = np.unique(np.concatenate([query.labels.persons, gallery.labels.persons]))
    people = random.permutation(people[people > DISTRACTOR_PERSON])
    first = people[: (len(people) + 1) // 2]
    chosen = []
    for side in (query, gallery):
        known = side.labels.persons > DISTRACTOR_PERSON
        chosen.append(np.where(known, np.isin(side.labels.persons, first), random.random(len(side)) < 0.5))
    for masks in (chosen, [~mask for mask in chosen]):
        yield _part(query, masks[0]), _part(gallery, masks[1])


def _part(side: LabelledCrops, rows: NDArray[np.bool_]) -> LabelledCrops:
    return replace(side, descriptors=side.descriptors[rows], labels=side.labels[rows], paths=())


def _evenly(persons: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows of at most ``count`` crops of known people: one of each person, then a second one of each, and so on."""
    rows = random.permutation(np.flatnonzero(persons > DISTRACTOR_PERSON))
    rows = rows[np.argsort(persons[rows], kind="stable")]
    _, starts, counts = np.unique(persons[rows], return_index=True, return_counts=True)
    turn = np.arange(len(rows)) - np.repeat(starts, counts)
    order = np.lexsort((random.random(len(rows)), turn))
    return np.sort(rows[order[: max(0, count)]])


def _kept(impostors: int, searches: int) -> int:
    """Scores to keep per search."""
    wanted = max(_LEAST_KEPT, math.ceil(_KEPT_SHARE * impostors))
    return min(impostors, wanted, max(1, _MOST_KEPT // max(1, searches)))


def _blocks(
    query: LabelledCrops, asked: NDArray[np.int64], gallery: LabelledCrops, added: NDArray[np.int64]
) -> Iterator[tuple[int, LabelledCrops, NDArray[np.int64]]]:
    """The probes in blocks: number of the first, its side, rows of this side. A block has probes of one side."""
    for first, side, rows in ((0, query, asked), (len(asked), gallery, added)):
        for start in range(0, len(rows), _BLOCK):
            yield first + start, side, rows[start : start + _BLOCK]


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The ``count`` highest values of each row, descending."""
    width = scores.shape[1]
    if count < width:
        scores = np.partition(scores, width - count, axis=1)[:, width - count :]
    ordered: NDArray[np.float32] = np.sort(scores, axis=1)[:, ::-1]
    return ordered
