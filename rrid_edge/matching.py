"""Matching: one person's query images against a gallery."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import Gallery, Hit, SearchFilter, SearchResult
from rrid_edge.gallery.stored import StoredVectors, parts_in_memory
from rrid_edge.ranking.rerank import RerankSettings, k_reciprocal

FUSIONS = ("mean", "max", "none")
RERANK_DEPTH = 200
"""Crops that re-ranking looks at where nothing else is said."""
LEAST_RERANKED = RerankSettings().k1
"""With the query, these are one image more than the neighbours that re-ranking looks at."""


@dataclass(frozen=True)
class Match:
    """One ranked gallery crop.

    Attributes:
        rank: 1 for the best.
        score: cosine of query and crop, in [-1, 1].
        path: the crop's file, relative to the gallery folder.
        camera: camera number where the file name tells it.
        person: where the file name tells it, as written there (``0002``, ``-1``).
        block_scores: each descriptor block's share of ``score``, in the model's block order; they sum to ``score``.
        distance: what the ranks follow after re-ranking, the smaller the better; None without re-ranking.
    """

    rank: int
    score: float
    path: str
    camera: int | None = None
    person: str | None = None
    block_scores: tuple[float, ...] = ()
    distance: float | None = None


@dataclass(frozen=True)
class MatchResult:
    """The answer to one query.

    Attributes:
        query: the query's image files.
        matches: best first; empty where nothing in the gallery passes the filters or the threshold.
        person: the query's person where its file name tells it.
        camera: the query's camera where its file name tells it.
        threshold: the score that a match had to reach, or None.
        search: how the gallery was searched; see :class:`rrid_edge.gallery.base.SearchResult`.
        searched: crops that passed the filters.
        rescored: crops whose score was computed, over all images of the query.
        reranked: crops that took part in the re-ranking; 0 without.
    """

    query: tuple[str, ...]
    matches: tuple[Match, ...]
    person: str | None = None
    camera: int | None = None
    threshold: float | None = None
    search: str = ""
    searched: int = 0
    rescored: int = 0
    reranked: int = 0


@dataclass(frozen=True)
class MatchSettings:
    """How to match.

    Attributes:
        top_k: matches of a query.
        fuse: several images of one person: ``mean`` averages their descriptors (then unit length), ``max`` takes each
            crop's best score over the images. ``none`` is for callers who make every image a query of its own.
        exclude_same_camera: leave out crops of the query's own camera.
        rows: which crops may answer besides.
        threshold: lowest score of a match, or None.
        expand: nearest crops averaged into the query before the ranking that counts; 0 is off.
        fast: score a fixed number of crops only, chosen by estimates: quicker on large galleries, may miss a crop.
        rerank: crops of highest score that are put in a new order by k-reciprocal re-ranking among each other
            (:func:`rrid_edge.ranking.rerank.k_reciprocal`, its default parameters); 0 is off. Scores and ``threshold`` stay cosines.
    """

    top_k: int = 10
    fuse: str = "mean"
    exclude_same_camera: bool = False
    rows: SearchFilter = field(default_factory=SearchFilter)
    threshold: float | None = None
    expand: int = 0
    fast: bool = False
    rerank: int = 0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k {self.top_k} does not work: expected at least 1", parameter="top_k")
        if self.fuse not in FUSIONS:
            raise UsageError(f"fuse {self.fuse!r} is unknown: expected one of {', '.join(FUSIONS)}", parameter="fuse")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(
                f"a threshold of {self.threshold} is no cosine: expected a number from -1 to 1", parameter="threshold"
            )
        if self.expand < 0:
            raise UsageError(f"expand {self.expand} does not work: expected 0 or more", parameter="expand")
        if self.rerank and self.rerank < max(self.top_k, LEAST_RERANKED):
            raise UsageError(
                f"re-ranking the best {self.rerank} crops does not work: expected at least the {self.top_k} matches asked for, "
                f"and {LEAST_RERANKED}",
                parameter="rerank_depth",
            )


def match(gallery: Gallery, query: Query, settings: MatchSettings | None = None) -> MatchResult:
    """Rank a gallery for one person; see :func:`match_all`."""
    return match_all(gallery, [query], settings)[0]


def match_all(
    gallery: Gallery, queries: Sequence[Query], settings: MatchSettings | None = None
) -> tuple[MatchResult, ...]:
    """Rank a gallery for several people; those who may be answered by the same crops are searched for at once.

    Args:
        gallery: of the model that made the queries' descriptors.
        queries: the people.
        settings: what counts.

    Raises:
        UsageError: a query's own camera is to be left out but not known, several images are not to be fused, or too few crops
            are left to be re-ranked.
    """
    settings = settings or MatchSettings()
    for query in queries:
        if settings.fuse == "none" and len(query.files) > 1:
            raise UsageError(f"{len(query.files)} images without fusion are as many queries: ask for each of them")
    wanted = [
        _Wanted(
            query, _rows_for(query, settings), fuse(query.descriptors) if settings.fuse == "mean" else query.descriptors
        )
        for query in queries
    ]
    if settings.expand:
        wanted = _expanded(gallery, wanted, settings.expand)
    depth = settings.rerank or settings.top_k
    answers = _search(gallery, wanted, depth, fast=settings.fast)
    found = [_merge(answer, depth) for answer in answers]
    if settings.rerank:
        _refuse_few(found)
    blocks = len(gallery.spec.blocks)
    results: list[MatchResult] = []
    for part in parts_in_memory([len(own) for own in found]):
        stored = StoredVectors.of(gallery, [hit.row for own in found[part] for hit, _ in own])
        asked = zip(wanted[part], answers[part], found[part], strict=True)
        results += [_result(stored, *one, settings, blocks) for one in asked]
    return tuple(results)


@dataclass(frozen=True)
class _Wanted:
    """What is searched for: which crops may answer a query, and its descriptors, (images, D)."""

    query: Query
    rows: SearchFilter
    vectors: NDArray[np.float32]


_Found = tuple[Hit, int]
"""A crop, and which query image speaks for it."""
_Ranked = tuple[Hit, int, float | None]
"""A crop, which query image speaks for it, and its re-ranked distance."""


def _rows_for(query: Query, settings: MatchSettings) -> SearchFilter:
    """The settings' filter, and the query's own camera left out where that is wanted.

    Raises:
        UsageError: that camera is not known.
    """
    if not settings.exclude_same_camera:
        return settings.rows
    if query.camera is None:
        raise UsageError(
            f"{printable(query.files[0])}: the camera cannot be read off this name, so the same camera cannot be left "
            "out; rename the file (0002_c1s1_000451_03.jpg), give the pattern of its name, or keep the same camera",
            parameter=("pattern", "exclude_same_camera"),
        )
    return replace(settings.rows, not_cameras=settings.rows.not_cameras | {query.camera})


def _search(gallery: Gallery, wanted: Sequence[_Wanted], top_k: int, *, fast: bool = False) -> list[SearchResult]:
    """One answer for each of ``wanted``; one search for all that have the same filter."""
    groups: dict[SearchFilter, list[int]] = defaultdict(list)
    for index, one in enumerate(wanted):
        groups[one.rows].append(index)
    answers: dict[int, SearchResult] = {}
    for rows, members in groups.items():
        found = gallery.search(np.concatenate([wanted[index].vectors for index in members]), top_k, rows, fast=fast)
        start = 0
        for index in members:
            stop = start + len(wanted[index].vectors)
            answers[index] = found.part(slice(start, stop))
            start = stop
    return [answers[index] for index in range(len(wanted))]


def _expanded(gallery: Gallery, wanted: Sequence[_Wanted], count: int) -> list[_Wanted]:
    """Average query expansion: every descriptor becomes the mean of itself and its ``count`` nearest crops, unit length."""
    answers = _search(gallery, wanted, count)
    expanded: list[_Wanted] = []
    for part in parts_in_memory([sum(map(len, answer.hits)) for answer in answers]):
        stored = StoredVectors.of(
            gallery, [hit.row for answer in answers[part] for hits in answer.hits for hit in hits]
        )
        for one, answer in zip(wanted[part], answers[part], strict=True):
            near = zip(one.vectors, answer.hits, strict=True)
            means = [
                fuse(np.concatenate([vector[None], stored.take([hit.row for hit in hits])])) for vector, hits in near
            ]
            expanded.append(replace(one, vectors=np.concatenate(means)))
    return expanded


def _result(
    stored: StoredVectors,
    wanted: _Wanted,
    answer: SearchResult,
    found: list[_Found],
    settings: MatchSettings,
    blocks: int,
) -> MatchResult:
    """The answer to one query, from what was found for it."""
    ranked: list[_Ranked] = [(hit, index, None) for hit, index in found]
    if settings.rerank:
        ranked = _reranked(stored, wanted.vectors, found)
    if settings.threshold is not None:
        ranked = [item for item in ranked if item[0].score >= settings.threshold]
    return MatchResult(
        wanted.query.files,
        _matches(stored, wanted.vectors, ranked[: settings.top_k], blocks),
        wanted.query.person,
        wanted.query.camera,
        settings.threshold,
        search=answer.mode,
        searched=answer.rows,
        rescored=answer.rescored,
        reranked=len(found) if settings.rerank else 0,
    )


def _matches(
    stored: StoredVectors, vectors: NDArray[np.float32], ranked: list[_Ranked], blocks: int
) -> tuple[Match, ...]:
    """The answer with every block's share of each score."""
    crops = stored.take([hit.row for hit, _, _ in ranked])
    return tuple(
        Match(
            rank,
            hit.score,
            hit.row.path,
            hit.row.camera,
            hit.row.person,
            block_shares(vectors[index], crop, blocks),
            distance,
        )
        for rank, ((hit, index, distance), crop) in enumerate(zip(ranked, crops, strict=True), 1)
    )


def _refuse_few(found: Sequence[list[_Found]]) -> None:
    """Refuse to re-rank so few crops that their neighbours are all the same.

    Raises:
        UsageError: too few crops.
    """
    fewest = min(map(len, found), default=LEAST_RERANKED)
    if fewest < LEAST_RERANKED:
        raise UsageError(
            f"{fewest} crops pass the filters, and re-ranking compares the neighbours of at least {LEAST_RERANKED}: search "
            "without re-ranking",
            parameter="rerank",
        )


def _reranked(stored: StoredVectors, vectors: NDArray[np.float32], found: list[_Found]) -> list[_Ranked]:
    """The found crops by their re-ranked distances to the nearest of the query's images; ties by score, then path."""
    crops = stored.take([hit.row for hit, _ in found])
    crops /= np.linalg.norm(crops, axis=1, keepdims=True)  # float16 on the disk rounds lengths by some 1e-4
    distances = k_reciprocal(vectors, crops).min(axis=0).tolist()
    ranked: list[_Ranked] = [(hit, index, distance) for (hit, index), distance in zip(found, distances, strict=True)]
    # The sort is stable, and what was found is in the order of scores and paths already.
    return sorted(ranked, key=lambda item: item[2] or 0.0)


def _merge(result: SearchResult, top_k: int) -> list[_Found]:
    """Each crop's best score over the query's images, and which image gave it."""
    best: dict[str, tuple[Hit, int]] = {}
    for index, hits in enumerate(result.hits):
        for hit in hits:
            known = best.get(hit.row.path)
            if known is None or hit.score > known[0].score:
                best[hit.row.path] = (hit, index)
    return sorted(best.values(), key=lambda pair: (-pair[0].score, os.fsencode(pair[0].row.path)))[:top_k]


def fuse(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of several unit descriptors (N, D), scaled to unit length: (1, D)."""
    mean = descriptors.astype(np.float64).mean(axis=0, keepdims=True)
    length = np.linalg.norm(mean)
    if length < 1e-6:
        raise UsageError(
            "the query images contradict each other: their descriptors cancel out; give images of one person"
        )
    fused: NDArray[np.float32] = (mean / length).astype(np.float32)
    return fused


def block_shares(query: NDArray[np.float32], crop: NDArray[np.float32], blocks: int) -> tuple[float, ...]:
    """Each block's share of the cosine, which is the sum over blocks of the products of (D,) and (D,)."""
    products = (query.astype(np.float64) * crop).reshape(blocks, -1).sum(axis=1)
    return tuple(float(share) for share in products)
