"""Groups of crops that may show one person each: average linkage over neighbours, with links that verdicts give.

Two groups are joined while the mean cosine of their pairs is highest and reaches the threshold (UPGMA: Sokal and
Michener, 1958). Descriptors have unit length, so the mean over all pairs of two groups is the product of the groups'
sums divided by both sizes: no table of pairs is needed. A mean reaches the threshold only if a pair does, so only
groups with such a pair (an *edge*) are looked at, and each connected part of the graph is grouped by itself. Crops of
one track begin as one group, and groups that verdicts keep apart are never joined (Davidson and Ravi, "Agglomerative
hierarchical clustering with constraints", PKDD 2005). At the end, groups with crops that verdicts join become one.
Where other verdicts keep these groups apart, only the joined crops leave them, for a group of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.people.links import Sets

Read = Callable[[Sequence[int]], NDArray[np.float32]]
"""Returns the descriptors of some crops, by their positions: float32 (N, D), which the caller may change."""


@dataclass(frozen=True)
class Constraints:
    """What is known of crops, by position.

    Attributes:
        together: sets of crops that one group must hold.
        tracks: sets of crops of one track and camera. They belong together unless ``apart`` forbids it.
        apart: pairs of crops that no group may hold together.
    """

    together: Sequence[Sequence[int]] = ()
    tracks: Sequence[Sequence[int]] = ()
    apart: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Grouped:
    """A group of at least two crops.

    Attributes:
        members: positions, ascending.
        cohesion: mean cosine of its pairs.
    """

    members: tuple[int, ...]
    cohesion: float


@dataclass(frozen=True)
class Edges:
    """Pairs of crops whose cosine reaches the threshold.

    Attributes:
        first: int64 (edges,): positions.
        second: int64 (edges,): positions.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]


def group_crops(
    count: int, edges: Edges, read: Read, constraints: Constraints, threshold: float, *, stop: Callable[[], None]
) -> list[Grouped]:
    """Group crops. The result depends on nothing but the arguments.

    Args:
        count: number of crops.
        edges: pairs whose cosine reaches the threshold.
        read: descriptors of one connected part at a time.
        constraints: what is known of the crops.
        threshold: lowest mean cosine at which groups are joined.
        stop: called often; it raises an exception to end the work.

    Returns:
        Groups of at least two crops, by their first member.

    Raises:
        UsageError: a pair is told to be together and apart.
    """
    apart = _closure(constraints)
    starts = _starts(constraints.tracks, apart)
    groups: list[Grouped] = []
    for part in _parts(count, edges, starts, apart):
        stop()
        groups += _Linkage(part, read(part.members)).groups(threshold, stop)
    joined = _Joining(groups, apart)
    for crops in sorted(map(sorted, constraints.together)):
        joined.join(crops)
    return sorted(joined.groups(read), key=lambda group: group.members[0])


def _closure(constraints: Constraints) -> list[tuple[int, int]]:
    """Pairs that no group may hold: what holds for a crop holds for those that must be with it.

    Raises:
        UsageError: a pair is told to be together and apart.
    """
    with_it = {crop: crops for crops in constraints.together for crop in crops}
    pairs = set()
    for first, second in constraints.apart:
        for one in with_it.get(first, [first]):
            for other in with_it.get(second, [second]):
                if one == other:
                    raise UsageError(f"crops {first} and {second} are told to be together and apart: expected one")
                pairs.add((min(one, other), max(one, other)))
    return sorted(pairs)


def _starts(tracks: Sequence[Sequence[int]], apart: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The groups to begin with, of at least two crops: tracks, except those that must not become one group."""
    sets = Sets()
    for crops in tracks:
        roots = {sets.find(crop) for crop in crops}
        if not any(sets.find(first) in roots and sets.find(second) in roots for first, second in apart):
            for crop in crops[1:]:
                sets.join(crops[0], crop)
    found = ([node for node in nodes if isinstance(node, int)] for nodes in sets.members().values())
    return sorted(sorted(crops) for crops in found if len(crops) > 1)


class _Joining:
    """Joins groups with crops that must be together."""

    def __init__(self, groups: Sequence[Grouped], apart: Sequence[tuple[int, int]]) -> None:
        self._known = {group.members: group for group in groups}
        self._members: dict[int, set[int]] = {}
        for group in groups:
            members = set(group.members)
            self._members |= dict.fromkeys(members, members)
        self._apart: dict[int, set[int]] = {}
        for first, second in apart:
            self._apart.setdefault(first, set()).add(second)
            self._apart.setdefault(second, set()).add(first)

    def join(self, crops: Sequence[int]) -> None:
        """Put crops into one group, with all that are grouped with them, or alone where that is forbidden."""
        union = {other for crop in crops for other in self._members.get(crop, {crop})}
        if any(self._apart.get(crop, set()) & union for crop in union):
            union = set(crops)
            for crop in crops:
                self._members.get(crop, set()).discard(crop)
        self._members |= dict.fromkeys(union, union)

    def groups(self, read: Read) -> list[Grouped]:
        """All groups of at least two crops."""
        found = {tuple(sorted(members)) for members in self._members.values() if len(members) > 1}
        return [self._known[members] if members in self._known else _cohesive(members, read) for members in found]


def _cohesive(members: tuple[int, ...], read: Read) -> Grouped:
    return Grouped(members, _cohesion(read(members).sum(axis=0, dtype=np.float64), len(members)))


def _cohesion(total: NDArray[np.float64], count: int) -> float:
    """Mean cosine of the pairs of ``count`` unit vectors, from their sum."""
    return (float(total @ total) - count) / (count * (count - 1))


@dataclass(frozen=True)
class _Part:
    """A connected part: no group reaches over two of them.

    Attributes:
        members: positions of at least two crops, ascending.
        edges: pairs of positions, int64 (edges, 2).
        starts: groups to begin with.
        apart: pairs that no group may hold.
    """

    members: list[int]
    edges: NDArray[np.int64]
    starts: list[Sequence[int]] = field(default_factory=list)
    apart: list[tuple[int, int]] = field(default_factory=list)


def _parts(count: int, edges: Edges, starts: Sequence[Sequence[int]], apart: Iterable[tuple[int, int]]) -> list[_Part]:
    label = _connected(count, edges, starts)
    order = np.argsort(label, kind="stable")
    names, cuts = np.unique(label[order], return_index=True)
    members = np.split(order, cuts[1:])
    edge_order = np.argsort(label[edges.first], kind="stable")
    pairs = np.stack([edges.first[edge_order], edges.second[edge_order]], axis=1)
    ends = np.searchsorted(label[pairs[:, 0]], names, side="right")
    own_edges = np.split(pairs, ends[:-1])
    parts = {
        name: _Part(crops.tolist(), own)
        for name, crops, own in zip(names.tolist(), members, own_edges, strict=True)
        if len(crops) > 1
    }
    for crops in starts:
        parts[int(label[crops[0]])].starts.append(crops)
    for first, second in apart:
        if label[first] == label[second]:
            parts[int(label[first])].apart.append((first, second))
    return list(parts.values())


def _connected(count: int, edges: Edges, starts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """A number per crop, equal for crops of one connected part: int64 (count,)."""
    label = np.arange(count)
    first = np.concatenate([edges.first, *(np.full(len(crops) - 1, crops[0]) for crops in starts)]).astype(np.int64)
    second = np.concatenate([edges.second, *(np.array(crops[1:], np.int64) for crops in starts)]).astype(np.int64)
    while True:  # each crop takes the lowest number around it, then that one's number, until nothing changes
        before = label.copy()
        lowest = np.minimum(label[first], label[second])
        np.minimum.at(label, first, lowest)
        np.minimum.at(label, second, lowest)
        label = label[label]
        if np.array_equal(before, label):
            return label


class _Linkage:
    """Average linkage of one connected part. A group is named by its lowest place in the part."""

    def __init__(self, part: _Part, vectors: NDArray[np.float32]) -> None:
        self._part, self._sums = part.members, vectors
        positions = np.array(part.members)
        place = {position: index for index, position in enumerate(part.members)}
        self._members: dict[int, list[int]] = {index: [index] for index in place.values()}
        self._means: list[dict[int, float]] = [{} for _ in place]
        self._apart: list[set[int]] = [set() for _ in place]
        names = np.arange(len(positions))
        for crops in part.starts:
            own = [place[crop] for crop in crops]
            names[own] = own[0]
            for other in own[1:]:
                self._absorb(own[0], other)
        for ends in part.apart:
            low, high = (int(names[place[end]]) for end in ends)
            self._apart[low].add(high)
            self._apart[high].add(low)
        found = np.sort(names[np.searchsorted(positions, part.edges)], axis=1)
        pairs = np.unique(found[found[:, 0] != found[:, 1]], axis=0)
        self._heap: list[tuple[float, int, int]] = []
        for low, high in pairs.tolist():
            self._offer(low, high, self._mean(low, high))

    def _absorb(self, low: int, high: int) -> None:
        self._sums[low] += self._sums[high]
        self._members[low] += self._members.pop(high)

    def _mean(self, low: int, high: int) -> float:
        product = float(self._sums[low].astype(np.float64) @ self._sums[high].astype(np.float64))
        return product / (len(self._members[low]) * len(self._members[high]))

    def _offer(self, low: int, high: int, mean: float) -> None:
        self._means[low][high] = self._means[high][low] = mean
        if high not in self._apart[low]:
            heapq.heappush(self._heap, (-mean, min(low, high), max(low, high)))

    def groups(self, threshold: float, stop: Callable[[], None]) -> list[Grouped]:
        """Join groups until no mean reaches the threshold."""
        while self._heap:
            mean, low, high = heapq.heappop(self._heap)
            if -mean < threshold:
                break
            is_current = low in self._members and high in self._members and self._means[low].get(high) == -mean
            if is_current and high not in self._apart[low]:
                stop()
                self._join(low, high)
        return [self._grouped(low) for low, members in self._members.items() if len(members) > 1]

    def _join(self, low: int, high: int) -> None:
        sizes = len(self._members[low]), len(self._members[high])
        own, other = self._means[low], self._means[high]
        self._absorb(low, high)
        for far in self._apart[high]:
            self._apart[far].discard(high)
            self._apart[far].add(low)
        self._apart[low] |= self._apart[high]
        near = (own.keys() | other.keys()) - {low, high}
        for far in sorted(near):
            self._means[far].pop(high, None)
            if far in own and far in other:  # the mean of a joined group is that of its parts, by their sizes
                mean = (sizes[0] * own[far] + sizes[1] * other[far]) / sum(sizes)
            else:
                mean = self._mean(low, far)
            self._offer(low, far, mean)
        own.pop(high, None)
        other.clear()

    def _grouped(self, name: int) -> Grouped:
        members = tuple(sorted(self._part[index] for index in self._members[name]))
        return Grouped(members, _cohesion(self._sums[name].astype(np.float64), len(members)))
