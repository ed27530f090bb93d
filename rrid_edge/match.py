"""Matching: one person's query images against a gallery."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import Gallery, Hit, SearchFilter, SearchResult

FUSIONS = ("mean", "max", "none")


@dataclass(frozen=True)
class Match:
    """One ranked gallery crop.

    Attributes:
        rank: 1 for the best.
        score: cosine of query and crop, in [-1, 1].
        path: the crop's file, relative to the gallery folder.
        camera: camera number where the file name tells it.
        person: identity where the file name tells it, as written there (``0002``, ``-1``).
        block_scores: each descriptor block's share of ``score``, in the model's block order; they sum to ``score``.
    """

    rank: int
    score: float
    path: str
    camera: int | None = None
    person: str | None = None
    block_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class MatchResult:
    """The answer to one query.

    Attributes:
        query: the query's image files.
        matches: best first; empty where nothing in the gallery passes the filters or the threshold.
        person: the query's identity where its file name tells it.
        camera: the query's camera where its file name tells it.
        threshold: the score that a match had to reach, or None.
        search: how the gallery was searched; see :class:`rrid_edge.gallery.base.SearchResult`.
        searched: crops that passed the filters.
        rescored: crops whose score was computed, over all images of the query.
    """

    query: tuple[str, ...]
    matches: tuple[Match, ...]
    person: str | None = None
    camera: int | None = None
    threshold: float | None = None
    search: str = ""
    searched: int = 0
    rescored: int = 0


@dataclass(frozen=True)
class Query:
    """One person to look for.

    Attributes:
        files: the image files, at least one.
        descriptors: float32 (files, D), rows of unit length.
        person: identity where a file name tells it.
        camera: camera where all file names that tell one agree.
    """

    files: tuple[str, ...]
    descriptors: NDArray[np.float32]
    person: str | None = None
    camera: int | None = None


@dataclass(frozen=True)
class MatchSettings:
    """How to match.

    Attributes:
        top_k: matches of a query.
        fuse: several images of one person: ``mean`` averages their descriptors (then unit length), ``max`` takes each
            crop's best score over the images. ``none`` is for callers who make every image a query of its own.
        exclude_same_camera: leave out crops of the query's own camera.
        rows: which crops may answer besides.
        min_score: lowest score of a match, or None.
        expand: nearest crops averaged into the query before the ranking that counts; 0 is off.
        fast: score a fixed number of crops only, chosen by estimates: quicker on large galleries, may miss a crop.
    """

    top_k: int = 10
    fuse: str = "mean"
    exclude_same_camera: bool = False
    rows: SearchFilter = field(default_factory=SearchFilter)
    min_score: float | None = None
    expand: int = 0
    fast: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"--top-k {self.top_k} does not work: expected at least 1")
        if self.fuse not in FUSIONS:
            raise UsageError(f"--fuse {self.fuse!r} is unknown: expected one of {', '.join(FUSIONS)}")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise UsageError(f"a threshold of {self.min_score} is no cosine: expected a number from -1 to 1")
        if self.expand < 0:
            raise UsageError(f"--expand {self.expand} does not work: expected 0 or more")


def match(gallery: Gallery, query: Query, settings: MatchSettings | None = None) -> MatchResult:
    """Rank a gallery for one person.

    Args:
        gallery: of the model that made the query's descriptors.
        query: the person.
        settings: what counts.

    Raises:
        UsageError: the query's own camera is to be left out but not known.
    """
    settings = settings or MatchSettings()
    if settings.fuse == "none" and len(query.files) > 1:
        raise UsageError(f"{len(query.files)} images without fusion are as many queries: ask for each of them")
    rows = settings.rows
    if settings.exclude_same_camera:
        if query.camera is None:
            raise UsageError(
                f"{printable(query.files[0])}: the camera cannot be read off this name, so the same camera cannot be left "
                "out; rename the file (0002_c1s1_000451_03.jpg), give --pattern, or leave out --exclude-same-camera"
            )
        rows = replace(rows, not_cameras=rows.not_cameras | {query.camera})
    vectors = fuse(query.descriptors) if settings.fuse == "mean" else query.descriptors
    if settings.expand:
        vectors = np.concatenate([_expanded(gallery, vector, rows, settings.expand) for vector in vectors])
    result = gallery.search(vectors, settings.top_k, rows, fast=settings.fast)
    hits = _merge(result, settings.top_k)
    if settings.min_score is not None:
        hits = [(hit, index) for hit, index in hits if hit.score >= settings.min_score]
    stored = gallery.vectors([hit.row for hit, _ in hits]) if hits else np.empty((0, vectors.shape[1]), np.float32)
    count = len(gallery.info.spec.blocks)
    matches = tuple(
        Match(
            rank + 1,
            hit.score,
            hit.row.path,
            hit.row.camera,
            hit.row.person,
            block_shares(vectors[index], stored[rank], count),
        )
        for rank, (hit, index) in enumerate(hits)
    )
    return MatchResult(
        query.files,
        matches,
        query.person,
        query.camera,
        settings.min_score,
        search=result.mode,
        searched=result.rows,
        rescored=result.rescored,
    )


def _merge(result: SearchResult, top_k: int) -> list[tuple[Hit, int]]:
    """Each crop's best score over the query's images, and which image gave it."""
    best: dict[str, tuple[Hit, int]] = {}
    for index, hits in enumerate(result.hits):
        for hit in hits:
            known = best.get(hit.row.path)
            if known is None or hit.score > known[0].score:
                best[hit.row.path] = (hit, index)
    return sorted(best.values(), key=lambda pair: (-pair[0].score, os.fsencode(pair[0].row.path)))[:top_k]


def _expanded(gallery: Gallery, vector: NDArray[np.float32], rows: SearchFilter, count: int) -> NDArray[np.float32]:
    """Average query expansion: the mean of the query and its nearest crops, unit length, (1, D)."""
    hits = gallery.search(vector[None], count, rows).hits[0]
    if not hits:
        return vector[None]
    return fuse(np.concatenate([vector[None], gallery.vectors([hit.row for hit in hits])]))


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
