"""Ranking a gallery for queries: one search per filter, fusion, expansion, re-ranking, block shares."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.embedding.queries import Query
from rrid_edge.errors import GalleryChangedError, UsageError, printable
from rrid_edge.gallery.base import Hit, SearchFilter, SearchResult
from rrid_edge.gallery.contract import ApproximateMoment, GalleryStore, Moment, StoreOwner, read_in_one_moment, store_of
from rrid_edge.gallery.searching import Match
from rrid_edge.gallery.stored import StoredVectors, memory_batches
from rrid_edge.matching.contrast import UsualBlocks
from rrid_edge.matching.doubts import nothing_passes, unlike_images
from rrid_edge.matching.records import LEAST_RERANK_DEPTH, MatchResult, MatchSettings
from rrid_edge.matching.sampling import GallerySample
from rrid_edge.matching.separation import Separation, separation
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import step
from rrid_edge.ranking.descriptors import block_shares_of, mean_descriptor
from rrid_edge.ranking.rerank import k_reciprocal
from rrid_edge.ranking.search_thresholds import SearchThreshold

MOST_ATTEMPTS = 3
"""Times that all answers are computed before a gallery that others keep changing is reported."""
_MOST_CALLS = 8
"""Searches of different filters that run at the same time."""


def match(
    gallery: GalleryStore | StoreOwner,
    query: Query,
    settings: MatchSettings | None = None,
    sample: GallerySample | None = None,
) -> MatchResult:
    """Rank a gallery for one person; see :func:`match_all`."""
    return match_all(gallery, [query], settings, sample)[0]


@step("searching")
def match_all(
    gallery: GalleryStore | StoreOwner,
    queries: Sequence[Query],
    settings: MatchSettings | None = None,
    sample: GallerySample | None = None,
) -> tuple[MatchResult, ...]:
    """Rank a gallery for several people. Queries with the same filter share one search.

    All answers come from one moment of the gallery. If others change rows that an answer needs meanwhile, all answers
    are computed again.

    Args:
        gallery: a gallery or its store, of the model that made the queries' descriptors.
        queries: one per person.
        settings: how to match.
        sample: of this gallery, which later calls use again; None reads one for this call.

    Returns:
        One result per query, in the order of ``queries``.

    Raises:
        UsageError: a query has several images but ``fuse`` is ``none``, or the threshold is one per search; its camera
            is unknown but excluded; too few crops pass the filters for re-ranking, or too many for the threshold.
        GalleryChangedError: others changed the gallery :data:`MOST_ATTEMPTS` times meanwhile.
    """
    settings, store, sample = settings or MatchSettings(), store_of(gallery), sample or GallerySample()
    searches = [_planned(query, settings) for query in queries]
    if not searches:
        return ()
    try:
        return read_in_one_moment(
            store, lambda moment: _answered(moment, store.spec, searches, settings, sample), MOST_ATTEMPTS
        )
    except GalleryChangedError as error:
        raise GalleryChangedError(
            f"{store.where}: the gallery changed {MOST_ATTEMPTS} times while it was read; try again when less is "
            "written"
        ) from error


def _answered(
    moment: Moment, spec: ModelSpec, searches: list[_Search], settings: MatchSettings, sample: GallerySample
) -> tuple[MatchResult, ...]:
    with sample.meanwhile(moment, spec) as sampled:
        if settings.expand:
            searches = _expanded(moment, spec, searches, settings.expand)
        depth = settings.rerank or settings.top_k
        answers = _search(moment, searches, depth, fast=settings.fast)
        crops = [_best_per_crop(answer, depth) for answer in answers]
        if settings.rerank:
            _refuse_too_few(crops)
        empty = nothing_passes(moment) if any(not answer.rows for answer in answers) else ""
        results: list[MatchResult] = []
        for batch in memory_batches([len(scored) for scored in crops]):
            stored = StoredVectors.read(moment, spec, [crop.hit.row for scored in crops[batch] for crop in scored])
            for search, answer, scored in zip(searches[batch], answers[batch], crops[batch], strict=True):
                threshold, fpir = _threshold(settings, answer.rows)
                ranked = _ranked(stored, search, scored, settings, threshold)
                query, reranked = search.query, len(scored) if settings.rerank else 0
                usual = sampled().usual_blocks(search.vectors, _told(query)) if ranked else UsualBlocks((), 0)
                matches, separating = _matches(stored, search, ranked, usual)
                facts = (query.person, query.camera, threshold, fpir, answer.mode, answer.rows, answer.rescored)
                warnings = (
                    *query.warnings,
                    *unlike_images(query, settings.least_likeness),
                    *([] if answer.rows else [empty]),
                )
                told = (usual.blocks, usual.others, separating)
                results.append(MatchResult(query.files, matches, *facts, reranked, warnings, *told))
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
        UsageError: the query has several images but ``fuse`` is ``none`` or the threshold is one per search, or its
            camera is unknown but excluded.
    """
    if settings.fuse == "none" and len(query.files) > 1:
        raise UsageError(
            f"a query of {len(query.files)} images with fuse 'none': expected one image; make each image a query",
            parameter="fuse",
        )
    if isinstance(settings.threshold, SearchThreshold) and len(query.files) > 1:
        raise UsageError(
            f"a query of {len(query.files)} images with a threshold per search: it was measured on queries of one "
            "image; make each image a query (fuse 'none'), or give the lowest score",
            parameter=("fuse", "fpir"),
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


def _search(moment: Moment, searches: Sequence[_Search], top_k: int, *, fast: bool = False) -> list[SearchResult]:
    """One answer per search; searches with the same filter share one call. The calls of several filters overlap."""
    groups: dict[SearchFilter, list[int]] = defaultdict(list)
    for index, search in enumerate(searches):
        groups[search.rows].append(index)

    def answered(rows: SearchFilter) -> SearchResult:
        vectors = np.concatenate([searches[index].vectors for index in groups[rows]])
        ask = moment.search_approximately if fast and isinstance(moment, ApproximateMoment) else moment.search
        return ask(vectors, top_k, rows)

    answers: dict[int, SearchResult] = {}
    for indexes, result in zip(groups.values(), _overlapping(answered, list(groups)), strict=True):
        start = 0
        for index in indexes:
            stop = start + len(searches[index].vectors)
            answers[index] = result.select(slice(start, stop))
            start = stop
    return [answers[index] for index in range(len(searches))]


def _overlapping(ask: Callable[[SearchFilter], SearchResult], filters: Sequence[SearchFilter]) -> list[SearchResult]:
    """The answers of some filters, in their order. A server makes every call wait 0.2 s, so several wait together."""
    if len(filters) < 2:
        return [ask(one) for one in filters]
    with ThreadPoolExecutor(min(_MOST_CALLS, len(filters))) as pool:
        return list(pool.map(ask, filters))


def _expanded(moment: Moment, spec: ModelSpec, searches: Sequence[_Search], count: int) -> list[_Search]:
    """Average query expansion: each vector becomes the unit mean of itself and its ``count`` nearest crops."""
    answers = _search(moment, searches, count)
    expanded: list[_Search] = []
    for batch in memory_batches([sum(map(len, answer.hits)) for answer in answers]):
        rows = [hit.row for answer in answers[batch] for hits in answer.hits for hit in hits]
        stored = StoredVectors.read(moment, spec, rows)
        for search, answer in zip(searches[batch], answers[batch], strict=True):
            means = [
                mean_descriptor(np.concatenate([vector[None], stored.take([hit.row for hit in hits])]))
                for vector, hits in zip(search.vectors, answer.hits, strict=True)
            ]
            expanded.append(replace(search, vectors=np.concatenate(means)))
    return expanded


def _best_per_crop(answer: SearchResult, count: int) -> list[_ScoredCrop]:
    """The ``count`` best crops, each with its best score over the query's images; ties by path, then id."""
    best: dict[int, _ScoredCrop] = {}
    for image, hits in enumerate(answer.hits):
        for hit in hits:
            known = best.get(hit.row.id)
            if known is None or hit.score > known.hit.score:
                best[hit.row.id] = _ScoredCrop(hit, image)
    return sorted(best.values(), key=_order)[:count]


def _order(crop: _ScoredCrop) -> tuple[float, bytes, int]:
    row = crop.hit.row
    return -crop.hit.score, os.fsencode(row.path or ""), row.id


def _told(query: Query) -> str | None:
    """The person of a query, if its label names one."""
    return query.person if label_kind(query.person, query.files[0]) == PERSON else None


def _threshold(settings: MatchSettings, searched: int) -> tuple[float | None, float | None]:
    """The lowest score of a match among ``searched`` crops, and the false-positive rate per search that set it.

    Raises:
        UsageError: the threshold was measured in much smaller galleries.
    """
    if not isinstance(settings.threshold, SearchThreshold):
        return settings.threshold, None
    return settings.threshold.score(searched), settings.threshold.fpir


def _refuse_too_few(crops: Sequence[list[_ScoredCrop]]) -> None:
    """Refuse to re-rank fewer crops than :data:`LEAST_RERANK_DEPTH`: all would have the same neighbours.

    A query without crops has nothing to re-rank; its answer says so.

    Raises:
        UsageError: a query has too few crops.
    """
    fewest = min(filter(None, map(len, crops)), default=LEAST_RERANK_DEPTH)
    if fewest < LEAST_RERANK_DEPTH:
        raise UsageError(
            f"{fewest} crops pass the filters, but re-ranking needs at least {LEAST_RERANK_DEPTH}: search without "
            "re-ranking",
            parameter="rerank",
        )


def _ranked(
    stored: StoredVectors,
    search: _Search,
    crops: list[_ScoredCrop],
    settings: MatchSettings,
    threshold: float | None,
) -> list[_ScoredCrop]:
    """Crops in their final order, re-ranked if set, that reach the threshold: at most ``top_k``.

    Re-ranking looks at the crops of highest score. So it leaves a crop exactly if the plain search does.
    """
    if settings.rerank and crops:
        vectors = stored.take([crop.hit.row for crop in crops])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # stored as float16, lengths are off by about 1e-4
        distances = k_reciprocal(search.vectors, vectors).min(axis=0).tolist()
        crops = [replace(crop, distance=distance) for crop, distance in zip(crops, distances, strict=True)]
        crops.sort(key=lambda crop: crop.distance or 0.0)  # stable, so ties stay ordered by score, then path
    if threshold is not None:
        crops = [crop for crop in crops if crop.hit.score >= threshold]
    return crops[: settings.top_k]


def _matches(
    stored: StoredVectors, search: _Search, crops: list[_ScoredCrop], usual: UsualBlocks
) -> tuple[tuple[Match, ...], Separation | None]:
    """The ranked crops with the share of each block in their scores and its contrast, and what separates the best."""
    if not crops:
        return (), None
    vectors, queries = stored.take([crop.hit.row for crop in crops]), search.vectors[[crop.image for crop in crops]]
    shares, contrasts = block_shares_of(queries, vectors, len(usual.blocks)), usual.contrasts(queries, vectors)
    matches = tuple(
        Match.of(rank, crop.hit, own, crop.distance, contrast)
        for rank, (crop, own, contrast) in enumerate(zip(crops, shares, contrasts, strict=True), 1)
    )
    return matches, separation(usual, queries, vectors, contrasts)
