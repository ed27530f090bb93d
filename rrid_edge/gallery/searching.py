"""The library's search: matches of queries with the block shares, all from one moment of a gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import crop_kind
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import LOCAL_SOURCE, Hit, SearchFilter
from rrid_edge.gallery.contract import GalleryStore, Moment, read_in_one_moment
from rrid_edge.model.names import thresholds_candidates
from rrid_edge.model.spec import ModelSpec
from rrid_edge.ranking.descriptors import block_shares
from rrid_edge.ranking.search_thresholds import SearchThreshold

_ATTEMPTS = 5
"""Searches before a gallery that others keep changing is reported."""


@dataclass(frozen=True)
class Match:
    """One ranked gallery crop.

    Attributes:
        rank: 1 for the best.
        score: cosine of query and crop, in [-1, 1].
        path: the crop's file, relative to its source's folder; None for a crop that came through the library.
        camera: name of the camera, or None.
        person: person as the file name writes it (``0002``, ``-1``), or None.
        block_scores: share of each descriptor block in ``score``, in the model's block order. Their sum is ``score``.
        distance: re-ranked distance, lower is better; None without re-ranking.
        id: of the crop's row; -1 if it lies in no gallery.
        time: capture time in UTC microseconds since 1970, or None.
        frame: frame number, or None.
        track: name of the track that the crop belongs to, or None.
        label: person as a user confirmed it, or None.
        source: name of the folder or box that the crop comes from.
        contrasts: of each descriptor block, in the model's block order: by how many standard deviations it is nearer
            to the query than other people's crops; see :mod:`rrid_edge.matching.contrast`. None where all others are
            equally far; empty if too few others are known.
    """

    rank: int
    score: float
    path: str | None
    camera: str | None = None
    person: str | None = None
    block_scores: tuple[float, ...] = ()
    distance: float | None = None
    id: int = -1
    time: int | None = None
    frame: int | None = None
    track: str | None = None
    label: str | None = None
    source: str = LOCAL_SOURCE
    contrasts: tuple[float | None, ...] = ()

    @classmethod
    def of(
        cls,
        rank: int,
        hit: Hit,
        block_scores: tuple[float, ...],
        distance: float | None = None,
        contrasts: tuple[float | None, ...] = (),
    ) -> Match:
        """The match that a hit of a search becomes."""
        row = hit.row
        told = (row.id, row.time, row.frame, row.track, row.label, row.source)
        return cls(rank, hit.score, row.path, row.camera, row.person, block_scores, distance, *told, contrasts)

    @property
    def kind(self) -> str:
        """What the crop's label means, the confirmed one first: person, junk, distractor or unknown."""
        return crop_kind(self.label, self.person, self.path)

    @property
    def name(self) -> str:
        """The crop for people: its path, or ``#ID`` without one."""
        return f"#{self.id}" if self.path is None else self.path


@dataclass(frozen=True)
class SearchSettings:
    """How the library searches.

    Attributes:
        top_k: most matches per query.
        min_score: lowest cosine of a match, or None. A threshold measured per search gives the score for the number of
            rows that are searched.

    Raises:
        UsageError: a value is out of range.
    """

    top_k: int = 10
    min_score: float | SearchThreshold | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, Integral) or isinstance(self.top_k, bool) or self.top_k < 1:
            raise UsageError(
                f"top_k {self.top_k!r} does not work: expected a whole number of at least 1", parameter="top_k"
            )
        lowest = self.min_score
        if isinstance(lowest, SearchThreshold):
            return
        if lowest is not None and not (isinstance(lowest, Real) and -1 <= lowest <= 1):
            raise UsageError(
                f"min_score {lowest!r} is not a cosine: expected a number from -1 to 1", parameter="min_score"
            )


@dataclass(frozen=True)
class AskedScore:
    """How a caller sets the lowest cosine of a match: at most one of the first three.

    Attributes:
        min_score: the cosine itself.
        fpr: a false-positive rate per pair.
        fpir: a false-positive rate per search.
        thresholds_of: dataset whose thresholds the rates take; None takes those in use.
    """

    min_score: float | None = None
    fpr: float | None = None
    fpir: float | None = None
    thresholds_of: str | None = None

    def resolve(self, model: Callable[[], Path | None], spec: ModelSpec) -> float | SearchThreshold | None:
        """The lowest cosine of a match; None where none was asked for.

        Args:
            model: gives the model file, or None if it is not known. Rates need the thresholds beside it.
            spec: of the network.

        Raises:
            UsageError: several are given, the model is not known, or the rate was not measured for this network.
            ModelFileError: a file of thresholds is damaged or has another format.
        """
        given = [name for name in ("min_score", "fpr", "fpir") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other: give one", parameter=tuple(given))
        if self.fpr is None and self.fpir is None:
            return self.min_score
        file = model()
        if file is None:
            raise UsageError(
                "this gallery knows no model file, whose thresholds a false-positive rate needs: open it with the "
                "parameter model, or give min_score",
                parameter=(given[0], "model"),
            )
        from rrid_edge.ranking.threshold_file import require_thresholds

        found = require_thresholds(thresholds_candidates(file), spec.fingerprint, self.thresholds_of)
        return found.search_threshold(self.fpir) if self.fpir is not None else found.pair_score(self.fpr or 0.0)


def search_store(
    store: GalleryStore, queries: NDArray[np.float32], row_filter: SearchFilter, settings: SearchSettings
) -> tuple[tuple[Match, ...], ...]:
    """The matches of each query, float32 (Q, D) of unit length, best first.

    Raises:
        GalleryChangedError: others changed the rows of every attempt.
        UsageError: the threshold was measured in much smaller galleries.
    """
    if not len(queries):
        return ()

    def read(moment: Moment) -> tuple[list[list[Hit]], dict[int, NDArray[np.float32]]]:
        found = moment.search(queries, int(settings.top_k), row_filter)
        lowest = settings.min_score
        if isinstance(lowest, SearchThreshold):
            lowest = lowest.score(found.rows)
        hits = [[hit for hit in one if lowest is None or hit.score >= lowest] for one in found.hits]
        return hits, _vectors(moment, hits)

    hits, vectors = read_in_one_moment(store, read, _ATTEMPTS)
    blocks = len(store.spec.blocks)
    return tuple(
        tuple(Match.of(rank, hit, block_shares(query, vectors[hit.row.id], blocks)) for rank, hit in enumerate(one, 1))
        for query, one in zip(queries, hits, strict=True)
    )


def _vectors(moment: Moment, hits: Sequence[Sequence[Hit]]) -> dict[int, NDArray[np.float32]]:
    """The descriptors of all rows of some answers, by id; each is read once."""
    rows = {hit.row.id: hit.row for one in hits for hit in one}
    return dict(zip(rows, moment.vectors(list(rows.values())), strict=True)) if rows else {}
