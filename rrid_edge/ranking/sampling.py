"""Choose crops that can measure retrieval: all crops of some people, with strangers among them.

Crops taken evenly over sorted names are of as many people, so hardly one has an answer in another camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import DISTRACTOR_PERSON, Labels

DISTRACTOR_SHARE = 0.2
"""Share of distractors in a sample. In Market-1501's gallery it is 18 %."""
LEAST_PEOPLE = 4
"""A person gives at most this part of the crops of people. So one person of a long video does not fill a sample."""
CROPS_EACH = 4
"""Crops that :func:`spread_people` takes of each person first."""

_REMEDY = (
    "name files like 0002_c1s1_000451_03.jpg (person, camera), or give a folder with labelled crops of the same people "
    "in two cameras"
)


@dataclass(frozen=True)
class PeopleSample:
    """Crops to measure on, and what their labels allow to measure.

    Every crop is a query against all others, as in a parity check. Crops that are no query are distractors: of person 0
    and of people with crops of one camera only. Each is a wrong answer for every query.

    Attributes:
        rows: int64 (crops,): indices into the labels, ascending.
        people: people with a query.
        cameras: cameras among the crops.
        queries: crops with a right answer in another camera. mAP and rank-1 are means over these.
        distractors: labelled crops without one.
        left_out_junk: crops that were not taken because their person or camera is unknown (-1).
        labelled: whether the person and camera of any crop are known.
    """

    rows: NDArray[np.int64]
    people: int
    cameras: int
    queries: int
    distractors: int
    left_out_junk: int = 0
    labelled: bool = True

    @classmethod
    def of(cls, labels: Labels, rows: Sequence[int] | NDArray[np.int64] | None = None, left_out_junk: int = 0) -> Self:
        """Count what crops allow to measure.

        Args:
            labels: labels of all crops.
            rows: the crops to measure on; None means all.
            left_out_junk: crops that were not taken because of their labels.
        """
        taken = np.arange(len(labels), dtype=np.int64) if rows is None else np.asarray(rows, np.int64)
        chosen = labels[taken]
        known = chosen.known
        answered = has_answer(chosen)
        queries = int(np.count_nonzero(answered))
        return cls(
            rows=taken,
            people=chosen[answered].people,
            cameras=len(np.unique(chosen.cameras[known])),
            queries=queries,
            distractors=int(np.count_nonzero(known)) - queries,
            left_out_junk=left_out_junk,
            labelled=bool(known.any()),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def unmeasured(self) -> str | None:
        """Why mAP and rank-1 cannot be measured, and what to do; None if they can."""
        if self.queries:
            return None
        if not self.labelled:
            reason = "no crop has a known person and camera"
        elif self.cameras == 1:
            reason = "all labelled crops are of one camera"
        else:
            reason = "nobody is in two cameras"
        return f"mAP and rank-1 cannot be measured: {reason}; {_REMEDY}"

    def describe(self) -> str:
        """One line: the crops, and what they allow to measure; or why it is nothing, and what to do."""
        crops = _counted(len(self), "crop", "crops")
        if self.unmeasured is not None:
            return f"{crops}; {self.unmeasured}"
        who = f"{_counted(self.people, 'person', 'people')} in {_counted(self.cameras, 'camera', 'cameras')}"
        share = f" ({self.distractors / len(self):.0%})".replace("%", " %") if self.distractors else ""
        text = (
            f"{crops} of {who}, {_counted(self.queries, 'query', 'queries')}, "
            f"{_counted(self.distractors, 'distractor', 'distractors')}{share}"
        )
        return f"{text}; left out: {self.left_out_junk:,} junk or unlabelled" if self.left_out_junk else text

    def to_dict(self) -> dict[str, Any]:
        """As JSON-serialisable values, with the description and without the rows."""
        return {
            "crops": len(self),
            "people": self.people,
            "cameras": self.cameras,
            "queries": self.queries,
            "distractors": self.distractors,
            "left_out_junk": self.left_out_junk,
            "labelled": self.labelled,
            "description": self.describe(),
        }


def sample_people(
    labels: Labels, count: int, *, seed: int = 0, distractor_share: float = DISTRACTOR_SHARE
) -> PeopleSample:
    """Choose crops by people, the same ones on every machine.

    * People with crops of two cameras come in an order that ``seed`` gives, each with all crops. The last one is cut to
      fit, but keeps a crop in each of two cameras: another person gives one up, or one more distractor is taken. Nobody
      gives more than a fourth of these crops (:data:`LEAST_PEOPLE`) while other people can give the rest.
    * Distractors fill their share: crops of person 0, and of people with crops of one camera only. If there are fewer,
      people fill it; if there are fewer people, distractors do.
    * Crops of unknown person or camera (-1) are left out as junk.
    * If no crop has an answer in another camera, the sample is evenly spaced over all crops, junk included.

    A larger ``count`` with the same seed takes mostly the same people and some more.

    Args:
        labels: labels of all crops.
        count: crops to choose. With fewer usable crops, all usable ones are taken.
        seed: 0 or larger.
        distractor_share: wanted share of distractors, in [0, 1).

    Returns:
        Exactly ``count`` crops, or all usable ones if they are fewer.

    Raises:
        UsageError: an argument is out of range.
    """
    _check(count, seed, distractor_share)
    usable = np.flatnonzero(labels.known)
    answered = has_answer(labels)
    if not answered.any():
        taken = min(count, len(labels))
        return PeopleSample.of(labels, np.arange(taken, dtype=np.int64) * len(labels) // max(taken, 1))
    junk = len(labels) - len(usable)
    if count >= len(usable):
        return PeopleSample.of(labels, usable, junk)
    strangers = usable[~answered[usable]]
    in_people = int(np.count_nonzero(answered))
    share = min(int(count * distractor_share + 1e-9), len(strangers), max(count - 2, 0))
    budget = min(count - share, in_people)
    people = _people_rows(labels, np.flatnonzero(answered), budget, seed, spare=len(strangers) > count - budget)
    order = np.argsort(_shuffled(strangers, seed, stream=1), kind="stable")
    rows = np.concatenate([people, strangers[order[: count - len(people)]]])
    return PeopleSample.of(labels, np.sort(rows), junk)


def spread_people(labels: Labels, count: int, *, seed: int = 0) -> PeopleSample:
    """Choose a few crops each of as many people as possible: where people, not crops, are what a test counts.

    People in two cameras come in an order that ``seed`` gives, each with up to :data:`CROPS_EACH` crops, whose cameras
    take turns; then with more, if people are few. Distractors fill at most :data:`DISTRACTOR_SHARE`. Junk is left out.
    If no crop has an answer in another camera, the sample is that of :func:`sample_people`.

    Args:
        labels: labels of all crops.
        count: largest number of crops.
        seed: 0 or larger.

    Raises:
        UsageError: as for :func:`sample_people`.
    """
    _check(count, seed, DISTRACTOR_SHARE)
    answered = has_answer(labels)
    if not answered.any():
        return sample_people(labels, count, seed=seed)
    usable = np.flatnonzero(labels.known)
    strangers = usable[~answered[usable]]
    share, rows = min(int(count * DISTRACTOR_SHARE), len(strangers)), np.flatnonzero(answered)
    people, numbers = np.unique(labels.persons[rows], return_inverse=True)
    turns = _turns(labels, rows, numbers, seed)
    order = np.lexsort((turns, _shuffled(people, seed, stream=0)[numbers], np.maximum(turns, CROPS_EACH - 1)))
    others = strangers[np.argsort(_shuffled(strangers, seed, stream=1), kind="stable")[:share]]
    rows = np.sort(np.concatenate([rows[order[: count - share]], others]))
    return PeopleSample.of(labels, rows, len(labels) - len(usable))


def has_answer(labels: Labels) -> NDArray[np.bool_]:
    """Whether each crop has a right answer among the others, in another camera: bool (N,). Person 0 has none."""
    rows = np.flatnonzero(labels.known & (labels.persons > DISTRACTOR_PERSON))
    cameras = labels.cameras[rows]
    _, numbers = np.unique(labels.persons[rows], return_inverse=True)
    size = int(numbers.max()) + 1 if len(rows) else 0
    first, last = np.full(size, np.iinfo(np.int64).max, np.int64), np.full(size, -1, np.int64)
    np.minimum.at(first, numbers, cameras)
    np.maximum.at(last, numbers, cameras)
    answered = np.zeros(len(labels), bool)
    answered[rows] = (first < last)[numbers]
    return answered


def _check(count: int, seed: int, distractor_share: float) -> None:
    if count < 1:
        raise UsageError(f"{count} crops to choose: expected at least 1, better 512", parameter="count")
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: expected 0 or larger", parameter="seed")
    if not 0 <= distractor_share < 1:
        raise UsageError(
            f"share of distractors {distractor_share} is out of range: expected at least 0 and below 1, for example "
            f"{DISTRACTOR_SHARE}",
            parameter="distractor_share",
        )


def _people_rows(labels: Labels, rows: NDArray[np.int64], budget: int, seed: int, *, spare: bool) -> NDArray[np.int64]:
    """Crops of the first people in the order of a seed.

    Args:
        labels: labels of all crops.
        rows: int64: crops of people in two cameras.
        budget: crops wanted; at most ``rows``.
        seed: gives the order.
        spare: a stranger can take the place of one crop that belongs to nobody's two.

    Returns:
        int64 (``budget``,); one fewer if the last crop would be alone and ``spare`` is True.
    """
    people, numbers, sizes = np.unique(labels.persons[rows], return_inverse=True, return_counts=True)
    order = np.argsort(_shuffled(people, seed, stream=0), kind="stable")
    shares = _shares(sizes[order], budget)
    if shares[shares > 0][-1] == 1:  # one crop alone is no query
        longer = np.flatnonzero(shares > 2)
        if spare:
            shares[shares == 1] = 0
        elif len(longer):
            shares[shares == 1] = 2
            shares[longer[-1]] -= 1
    wanted = np.empty_like(shares)
    wanted[order] = shares
    return rows[_turns(labels, rows, numbers, seed) < wanted[numbers]]


def _shares(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Crops that each person gives, in order; they add up to ``budget``."""
    most = max(budget // LEAST_PEOPLE, 2)
    while np.minimum(sizes, most).sum() < budget:
        most *= 2
    given = np.minimum(sizes, most)
    shares: NDArray[np.int64] = np.clip(budget - (np.cumsum(given) - given), 0, given)
    return shares


def _turns(labels: Labels, rows: NDArray[np.int64], people: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Turn of each crop among those of its person, from 0; the cameras take turns, and the seed orders their crops."""
    cameras = labels.cameras[rows]
    within = _positions([_shuffled(rows, seed, stream=2)], [cameras, people])
    return _positions([cameras, within], [people])


def _positions(keys: list[NDArray[Any]], groups: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Position of each item, from 0, among those of its group, ordered by keys of which the last counts most."""
    order = np.lexsort((*keys, *groups))
    shared = np.stack([group[order] for group in groups])
    starts = np.concatenate([[True], (shared[:, 1:] != shared[:, :-1]).any(axis=0)])
    counter = np.arange(len(order), dtype=np.int64)
    positions = np.empty(len(order), np.int64)
    positions[order] = counter - np.maximum.accumulate(np.where(starts, counter, 0))
    return positions


def _shuffled(values: NDArray[np.int64], seed: int, *, stream: int) -> NDArray[np.uint64]:
    """Keys that order values at random: uint64. A value's key depends on nothing else, and on no version of NumPy.

    This is SplitMix64's mixing function (Steele, Lea and Flood, OOPSLA 2014).
    """
    keys: NDArray[np.uint64] = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        (seed * 3 + stream) & (2**64 - 1)
    )
    for _ in range(2):  # twice, because seeds are small and neighbours
        keys = keys + np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys = keys ^ (keys >> np.uint64(31))
    return keys


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
