"""Matching: the crops of a gallery that show the person of a query."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import Hit, SearchFilter, SearchResult
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.stored import StoredVectors, memory_batches
from rrid_edge.ranking.descriptors import block_shares, mean_descriptor
from rrid_edge.ranking.rerank import RerankSettings, k_reciprocal

FUSIONS = ("mean", "max", "none")
DEFAULT_RERANK_DEPTH = 200
LEAST_RERANK_DEPTH = RerankSettings().k1
"""Fewest crops that re-ranking accepts: ``k1`` crops and the query make the ``k1 + 1`` images that it compares."""


@dataclass(frozen=True)
class Match:
    """One ranked gallery crop.

    Attributes:
        rank: 1 for the best.
        score: cosine of query and crop, in [-1, 1].
        path: the crop's file, relative to the gallery folder.
        camera: camera number from the file name, or None.
        person: person as the file name writes it (``0002``, ``-1``), or None.
        block_scores: share of each descriptor block in ``score``, in the model's block order. Their sum is ``score``.
        distance: re-ranked distance, lower is better; None without re-ranking.
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
        matches: best first. Empty if no crop passes the filters or reaches the threshold.
        person: the query's person from its file names, or None.
        camera: the query's camera from its file names, or None.
        threshold: lowest score of a match, or None.
        search: how the gallery was searched; see :class:`rrid_edge.gallery.base.SearchResult`.
        searched: number of crops that passed the filters.
        rescored: number of exact scores computed, over all images of the query.
        reranked: number of crops re-ranked; 0 without re-ranking.
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
        top_k: matches per query.
        fuse: how several images of one person are combined. ``mean`` averages their descriptors. ``max`` takes each
            crop's best score over the images. ``none`` refuses queries of several images.
        exclude_same_camera: leave out crops of the query's own camera.
        rows: filter of the crops that may answer.
        threshold: lowest score of a match, or None.
        expand: average query expansion: number of nearest crops averaged into the query; 0 turns it off.
        fast: score a fixed number of crops, chosen by estimates. Faster on large galleries; may miss a crop.
        rerank: number of best crops ordered by k-reciprocal re-ranking (:func:`rrid_edge.ranking.rerank.k_reciprocal`
            with its default parameters); 0 turns it off. Scores and ``threshold`` stay cosines.

    Raises:
        UsageError: a value is out of range.
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
                f"threshold {self.threshold} is not a cosine: expected a number from -1 to 1", parameter="threshold"
            )
        if self.expand < 0:
            raise UsageError(f"expand {self.expand} does not work: expected 0 or more", parameter="expand")
        least = max(self.top_k, LEAST_RERANK_DEPTH)
        if self.rerank and self.rerank < least:
            raise UsageError(
                f"a re-ranking depth of {self.rerank} crops does not work: expected at least {least}, for {self.top_k} "
                f"matches and the {LEAST_RERANK_DEPTH} neighbours that re-ranking compares",
                parameter="rerank_depth",
            )


def match(gallery: GalleryStore, query: Query, settings: MatchSettings | None = None) -> MatchResult:
    """Rank a gallery for one person; see :func:`match_all`."""
    return match_all(gallery, [query], settings)[0]


def match_all(
    gallery: GalleryStore, queries: Sequence[Query], settings: MatchSettings | None = None
) -> tuple[MatchResult, ...]:
    """Rank a gallery for several people. Queries with the same filter share one search.

    Args:
        gallery: of the model that made the queries' descriptors.
        queries: one per person.
        settings: how to match.

    Returns:
        One result per query, in the order of ``queries``.

    Raises:
        UsageError: a query has several images but ``fuse`` is ``none``; its camera is unknown but excluded; or too few
            crops pass the filters for re-ranking.
    """
    settings = settings or MatchSettings()
    searches = [_planned(query, settings) for query in queries]
    if settings.expand:
        searches = _expanded(gallery, searches, settings.expand)
    depth = settings.rerank or settings.top_k
    answers = _search(gallery, searches, depth, fast=settings.fast)
    crops = [_best_per_crop(answer, depth) for answer in answers]
    if settings.rerank:
        _refuse_too_few(crops)
    blocks = len(gallery.spec.blocks)
    results: list[MatchResult] = []
    for batch in memory_batches([len(scored) for scored in crops]):
        stored = StoredVectors.read(gallery, [crop.hit.row for scored in crops[batch] for crop in scored])
        for search, answer, scored in zip(searches[batch], answers[batch], crops[batch], strict=True):
            ranked = _ranked(stored, search, scored, settings)
            matches = _matches(stored, search, ranked, blocks)
            reranked = len(scored) if settings.rerank else 0
            results.append(_result(search.query, answer, matches, settings.threshold, reranked))
    return tuple(results)


@dataclass(frozen=True)
class _Search:
    """The search for one query: the filter, and the vectors to search with, float32 (images, D)."""

    query: Query
    rows: SearchFilter
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class _ScoredCrop:
    """A crop, the index of the query image with its best score, and its re-ranked distance."""

    hit: Hit
    image: int
    distance: float | None = None


def _planned(query: Query, settings: MatchSettings) -> _Search:
    """The search for a query.

    Raises:
        UsageError: the query has several images but ``fuse`` is ``none``, or its camera is unknown but excluded.
    """
    if settings.fuse == "none" and len(query.files) > 1:
        raise UsageError(
            f"a query of {len(query.files)} images with fuse 'none': expected one image; make each image a query",
            parameter="fuse",
        )
    rows = settings.rows
    if settings.exclude_same_camera:
        if query.camera is None:
            raise UsageError(
                f"{printable(query.files[0])}: the file name has no camera, so crops of the same camera cannot be "
                "excluded; rename the file (0002_c1s1_000451_03.jpg), give the pattern of its name, or include the "
                "same camera",
                parameter=("pattern", "exclude_same_camera"),
            )
        rows = replace(rows, not_cameras=rows.not_cameras | {query.camera})
    vectors = mean_descriptor(query.descriptors) if settings.fuse == "mean" else query.descriptors
    return _Search(query, rows, vectors)


def _search(store: GalleryStore, searches: Sequence[_Search], top_k: int, *, fast: bool = False) -> list[SearchResult]:
    """One answer per search; searches with the same filter share one call."""
    groups: dict[SearchFilter, list[int]] = defaultdict(list)
    for index, search in enumerate(searches):
        groups[search.rows].append(index)
    answers: dict[int, SearchResult] = {}
    for rows, indexes in groups.items():
        vectors = np.concatenate([searches[index].vectors for index in indexes])
        result = store.search(vectors, top_k, rows, fast=fast)
        start = 0
        for index in indexes:
            stop = start + len(searches[index].vectors)
            answers[index] = result.select(slice(start, stop))
            start = stop
    return [answers[index] for index in range(len(searches))]


def _expanded(gallery: GalleryStore, searches: Sequence[_Search], count: int) -> list[_Search]:
    """Average query expansion: each vector becomes the unit mean of itself and its ``count`` nearest crops."""
    answers = _search(gallery, searches, count)
    expanded: list[_Search] = []
    for batch in memory_batches([sum(map(len, answer.hits)) for answer in answers]):
        rows = [hit.row for answer in answers[batch] for hits in answer.hits for hit in hits]
        stored = StoredVectors.read(gallery, rows)
        for search, answer in zip(searches[batch], answers[batch], strict=True):
            means = [
                mean_descriptor(np.concatenate([vector[None], stored.take([hit.row for hit in hits])]))
                for vector, hits in zip(search.vectors, answer.hits, strict=True)
            ]
            expanded.append(replace(search, vectors=np.concatenate(means)))
    return expanded


def _best_per_crop(answer: SearchResult, count: int) -> list[_ScoredCrop]:
    """The ``count`` best crops, each with its best score over the query's images; ties by path."""
    best: dict[str, _ScoredCrop] = {}
    for image, hits in enumerate(answer.hits):
        for hit in hits:
            known = best.get(hit.row.path)
            if known is None or hit.score > known.hit.score:
                best[hit.row.path] = _ScoredCrop(hit, image)
    return sorted(best.values(), key=lambda crop: (-crop.hit.score, os.fsencode(crop.hit.row.path)))[:count]


def _refuse_too_few(crops: Sequence[list[_ScoredCrop]]) -> None:
    """Refuse to re-rank fewer crops than :data:`LEAST_RERANK_DEPTH`: all would have the same neighbours.

    Raises:
        UsageError: a query has too few crops.
    """
    fewest = min(map(len, crops), default=LEAST_RERANK_DEPTH)
    if fewest < LEAST_RERANK_DEPTH:
        raise UsageError(
            f"{fewest} crops pass the filters, but re-ranking needs at least {LEAST_RERANK_DEPTH}: search without "
            "re-ranking",
            parameter="rerank",
        )


def _ranked(
    stored: StoredVectors, search: _Search, crops: list[_ScoredCrop], settings: MatchSettings
) -> list[_ScoredCrop]:
    """Crops in their final order, re-ranked if set, that reach the threshold: at most ``top_k``."""
    if settings.rerank:
        vectors = stored.take([crop.hit.row for crop in crops])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # stored as float16, lengths are off by about 1e-4
        distances = k_reciprocal(search.vectors, vectors).min(axis=0).tolist()
        crops = [replace(crop, distance=distance) for crop, distance in zip(crops, distances, strict=True)]
        crops.sort(key=lambda crop: crop.distance or 0.0)  # stable, so ties stay ordered by score, then path
    if settings.threshold is not None:
        crops = [crop for crop in crops if crop.hit.score >= settings.threshold]
    return crops[: settings.top_k]


def _matches(stored: StoredVectors, search: _Search, crops: list[_ScoredCrop], blocks: int) -> tuple[Match, ...]:
    """The ranked crops with the share of each block in their scores."""
    vectors = stored.take([crop.hit.row for crop in crops])
    matches = []
    for rank, (crop, vector) in enumerate(zip(crops, vectors, strict=True), 1):
        row, shares = crop.hit.row, block_shares(search.vectors[crop.image], vector, blocks)
        matches.append(Match(rank, crop.hit.score, row.path, row.camera, row.person, shares, crop.distance))
    return tuple(matches)


def _result(
    query: Query, answer: SearchResult, matches: tuple[Match, ...], threshold: float | None, reranked: int
) -> MatchResult:
    labels = (query.person, query.camera, threshold)
    return MatchResult(query.files, matches, *labels, answer.mode, answer.rows, answer.rescored, reranked)
