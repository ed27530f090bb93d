"""Suggested people: groups of unlabelled crops of one moment, and the confirmed people whom they resemble."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.labelled import rows_by_label
from rrid_edge.model.spec import ModelSpec
from rrid_edge.people.grouping import Constraints, Edges, group_crops
from rrid_edge.people.links import Links
from rrid_edge.people.pairs import NeighbourTable, Pairs
from rrid_edge.people.threshold import GroupThreshold, group_threshold

MOST_CROPS: Final = 20_000
"""Unlabelled crops that are grouped, the newest ones: their descriptors take 300 MB at 3,840 values."""


def _go_on() -> None:
    """Never stops the work."""


@dataclass(frozen=True)
class Resemblance:
    """A confirmed person whom a suggested group may show. It is a question: nothing joins by itself.

    Attributes:
        label: of the person.
        crop: id of a crop of the group.
        other: id of a crop of the person.
        score: their cosine, the highest of all pairs.
        is_told: whether verdicts join the group to the person.
    """

    label: str
    crop: int
    other: int
    score: float
    is_told: bool = False


@dataclass(frozen=True)
class SuggestedGroup:
    """Crops that may show one person.

    Attributes:
        crops: ids, ascending; at least two. The lowest one names the group.
        confidence: 0 where the mean cosine of the group's pairs is the threshold, 1 where all of its crops are alike:
            (mean - threshold) / (1 - threshold), within [0, 1].
        resembles: the confirmed person who is nearest, if a pair reaches the threshold; or None.
    """

    crops: tuple[int, ...]
    confidence: float
    resembles: Resemblance | None = None


@dataclass(frozen=True)
class Suggestions:
    """What is suggested of one moment.

    Attributes:
        groups: by their lowest crop.
        threshold: that joined them.
        considered: number of unlabelled crops that were compared.
        left_out: number of older unlabelled crops that were not.
        crops: the crops that were compared, ascending ids.
        pairs: their neighbours.
        labels: labels of the labelled neighbours, by id.
        cameras: cameras of all crops in ``pairs``, by id.
    """

    groups: tuple[SuggestedGroup, ...]
    threshold: GroupThreshold
    considered: int
    left_out: int
    crops: tuple[int, ...] = ()
    pairs: Pairs = field(
        default_factory=lambda: Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    )
    labels: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str | None] = field(default_factory=dict)

    def group_of(self, crop: int) -> SuggestedGroup | None:
        """The group that holds a crop, or None."""
        return next((group for group in self.groups if crop in group.crops), None)


def suggest(
    moment: Moment,
    spec: ModelSpec,
    links: Links,
    model: Path | None = None,
    *,
    table: NeighbourTable | None = None,
    stop: Callable[[], None] = _go_on,
) -> Suggestions:
    """Group the unlabelled crops of a moment. Equal moments and verdicts give equal suggestions.

    Crops of one track and camera belong together. Crops that verdicts join to a confirmed person form groups of their
    own, which say so.

    Args:
        moment: of the gallery.
        spec: of its model.
        links: the verdicts that hold.
        model: the model file, for its measured thresholds.
        table: neighbours that an earlier state had; it takes over those of this one. None begins without.
        stop: called often; it raises an exception to end the work.

    Raises:
        GalleryError: the gallery is damaged.
    """
    found = rows_by_label(moment, MOST_CROPS)
    crops = found.unlabelled
    threshold = group_threshold(moment, spec, model)
    pairs = (table or NeighbourTable()).pairs(moment, crops, stop=stop)
    work = _Work(crops, found.labelled, links, pairs, threshold.score)
    groups = work.groups(moment, stop)
    rows = {row.id: row for row in (*crops, *found.labelled)}
    named = (set(pairs.second.tolist()) | {row.id for row in crops}) & rows.keys()
    return Suggestions(
        tuple(groups), threshold, len(crops), found.left_out, tuple(row.id for row in crops), pairs,
        {id_: label for id_ in named if (label := rows[id_].label) is not None},
        {id_: rows[id_].camera for id_ in named},
    )  # fmt: skip


class _Work:
    """One run over the crops of a moment."""

    def __init__(
        self,
        crops: Sequence[GalleryRow],
        labelled: Sequence[GalleryRow],
        links: Links,
        pairs: Pairs,
        threshold: float,
    ) -> None:
        self._crops, self._links = crops, links
        self._labels = {row.id: row.label or "" for row in labelled}
        self._pairs, self._threshold = pairs, threshold
        self._place = {row.id: index for index, row in enumerate(crops)}
        self._told = self._told_people()
        self._near = np.flatnonzero(pairs.scores >= np.float32(threshold))

    def _told_people(self) -> dict[int, tuple[str, int]]:
        """Label and crop of the confirmed person to whom verdicts join a crop, by the crop's id."""
        found: dict[int, tuple[str, int]] = {}
        for crops in self._links.components():
            confirmed = next((crop for crop in crops if crop in self._labels), None)
            if confirmed is not None:
                told = self._labels[confirmed], confirmed
                found |= {crop: told for crop in crops if crop in self._place}
        return found

    def groups(self, moment: Moment, stop: Callable[[], None]) -> list[SuggestedGroup]:
        """The groups, by their lowest crop."""

        def read(positions: Sequence[int]) -> np.ndarray:
            return moment.vectors([self._crops[position] for position in positions])

        grouped = group_crops(len(self._crops), self._edges(), read, self._constraints(), self._threshold, stop=stop)
        resembled = self._resembled([group.members for group in grouped])
        return [
            SuggestedGroup(
                tuple(self._crops[position].id for position in group.members),
                min(max((group.cohesion - self._threshold) / (1 - self._threshold), 0.0), 1.0),
                resembled[index],
            )
            for index, group in enumerate(grouped)
        ]

    def _edges(self) -> Edges:
        """Pairs of unlabelled crops that reach the threshold. Crops of confirmed people have none."""
        free = [
            (first, place)
            for first, second in zip(
                self._pairs.first[self._near].tolist(), self._pairs.second[self._near].tolist(), strict=True
            )
            if (place := self._place.get(second)) is not None
            and second not in self._told
            and self._crops[first].id not in self._told
        ]
        table = np.array(free, np.int64).reshape(-1, 2)
        return Edges(table[:, 0], table[:, 1])

    def _constraints(self) -> Constraints:
        together = [[self._place[crop] for crop in crops if crop in self._place] for crops in self._links.components()]
        by_person: dict[str, list[int]] = defaultdict(list)
        for crop, (label, _) in sorted(self._told.items()):
            by_person[label].append(self._place[crop])
        tracks: dict[tuple[str, str | None, str], list[int]] = defaultdict(list)
        for place, row in enumerate(self._crops):
            if row.track is not None and row.id not in self._told:
                tracks[row.source, row.camera, row.track].append(place)
        apart = [
            (self._place[first], self._place[second])
            for first, second in self._links.apart_crops()
            if first in self._place and second in self._place
        ]
        soft = [*by_person.values(), *(tracks[key] for key in sorted(tracks, key=lambda key: tracks[key][0]))]
        return Constraints(
            [crops for crops in together if len(crops) > 1], [crops for crops in soft if len(crops) > 1], apart
        )

    def _resembled(self, groups: Sequence[Sequence[int]]) -> list[Resemblance | None]:
        """The nearest confirmed person of each group, unless verdicts keep them apart."""
        group_of = {place: index for index, members in enumerate(groups) for place in members}
        refused = self._refused(group_of)
        best: dict[int, tuple[float, int, int]] = {}
        for index in self._near.tolist():
            other = int(self._pairs.second[index])
            group = group_of.get(int(self._pairs.first[index]))
            label = self._labels.get(other)
            if group is None or label is None or (group, label) in refused:
                continue
            crop = self._crops[int(self._pairs.first[index])].id
            best[group] = min(best.get(group, (2.0, 0, 0)), (-float(self._pairs.scores[index]), crop, other))
        found: list[Resemblance | None] = []
        for index, members in enumerate(groups):
            told = next((crop for place in members if (crop := self._crops[place].id) in self._told), None)
            if told is not None:
                label, other = self._told[told]
                found.append(Resemblance(label, told, other, 1.0, is_told=True))
            elif index in best:
                score, crop, other = best[index]
                found.append(Resemblance(self._labels[other], crop, other, -score))
            else:
                found.append(None)
        return found

    def _refused(self, group_of: Mapping[int, int]) -> set[tuple[int, str]]:
        """Groups and labels that verdicts keep apart."""
        refused = set()
        for pair in self._links.apart_crops():
            for crop, other in (pair, pair[::-1]):
                group = group_of.get(self._place.get(crop, -1))
                label = self._labels.get(other)
                if group is not None and label is not None:
                    refused.add((group, label))
        return refused
