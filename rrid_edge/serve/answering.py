"""What the answer to a search tells besides the ranking: marks, the kept query, people, and what carried a match."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import GalleryError, ModelFileError, OutputError
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.matching import Match, MatchResult
from rrid_edge.people.book import KeptQuery
from rrid_edge.ranking.descriptors import mean_descriptor
from rrid_edge.serve.answers import crops_of
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.marks import Mark, strictest
from rrid_edge.serve.search_answers import (
    BlockAnswer,
    MarkAnswer,
    MatchAnswer,
    QueryAnswer,
    SearchAnswer,
    ThresholdAnswer,
)
from rrid_edge.serve.service import Service

_FUSED: Final = "no measured rates are shown: they were measured on queries of one image, and this query has {} of them"


@dataclass(frozen=True)
class AskedQuery:
    """The person to look for.

    Attributes:
        query: descriptors of its images; a kept or mean descriptor counts as one.
        images: number of images that the descriptors were made of.
        crop: the crop of the gallery that it is, or None.
        kept: id of the kept query, or None.
        keeps: JPEG of an uploaded query that is kept for a day, or None.
    """

    query: Query
    images: int = 1
    crop: GalleryRow | None = None
    kept: str | None = None
    keeps: bytes | None = None


@dataclass(frozen=True)
class Ranked:
    """The rankings of some queries.

    Attributes:
        results: in the order of the queries.
        start_s: when the search began, of :func:`time.perf_counter`.
    """

    results: Sequence[MatchResult]
    start_s: float


def answers_to(
    service: Service, served: ServedGallery, asked: Sequence[AskedQuery], score: AskedScore, ranked: Ranked
) -> list[SearchAnswer]:
    """The answers to some queries, in their order. Blocking: it reads the gallery and the book.

    Args:
        service: that is asked.
        served: the gallery.
        asked: the queries; those that are kept get an id.
        score: how the lowest score of all was set.
        ranked: what was found.

    Raises:
        GalleryError: the gallery or its book cannot be read.
    """
    vectors = np.concatenate([mean_descriptor(one.query.descriptors) for one in asked])
    asked, unkept = _kept(served, asked, vectors)
    answers = []
    for one, result in zip(asked, ranked.results, strict=True):
        marks, doubts = _marks(served, one)
        answer = SearchAnswer(
            query=_query_answer(service, served, one),
            gallery=served.name,
            fingerprint=served.spec.fingerprint,
            matches=_matches(service, served, one, result, marks),
            threshold=_threshold(served, score, result),
            marks=[MarkAnswer(kind="fpr", rate=mark.rate, score=mark.score) for mark in marks],
            separation=result.separation,
            others=result.others,
            searched=result.searched,
            mode=result.search,
            warnings=[*result.warnings, *doubts, *unkept],
        )
        answer.milliseconds.searching = (time.perf_counter() - ranked.start_s) * 1000
        answers.append(answer)
    return answers


def _marks(served: ServedGallery, asked: AskedQuery) -> tuple[list[Mark], list[str]]:
    """The measured scores that hold for a query, and a line if they cannot be told."""
    try:
        marks = served.marks.marks()
    except ModelFileError as error:
        return [], [f"no measured rates are shown: {error.message}"]
    return (marks, []) if asked.images == 1 or not marks else ([], [_FUSED.format(asked.images)])


def _kept(
    served: ServedGallery, asked: Sequence[AskedQuery], vectors: NDArray[np.float32]
) -> tuple[list[AskedQuery], list[str]]:
    """The queries with the ids under which uploaded ones are kept, and a line if those cannot be kept."""
    queries = [
        KeptQuery(vector, served.spec.fingerprint, one.keeps, one.images)
        for one, vector in zip(asked, vectors, strict=True)
        if one.keeps is not None
    ]
    if not queries:
        return [*asked], []
    try:
        names = iter(served.book.keep_queries(queries))
    except (GalleryError, OutputError) as error:  # the answers are right all the same
        return [*asked], [f"the query is not kept: {error.message}"]
    return [one if one.keeps is None else replace(one, kept=next(names)) for one in asked], []


def _query_answer(service: Service, served: ServedGallery, asked: AskedQuery) -> QueryAnswer:
    addresses, thumbnail = service.addresses, None
    if asked.crop is not None:
        thumbnail = addresses.thumbnail(served.name, asked.crop.id)
    elif asked.kept is not None:
        thumbnail = addresses.query_thumbnail(served.name, asked.kept)
    crop = None if asked.crop is None else asked.crop.id
    return QueryAnswer(id=asked.kept, crop=crop, images=asked.images, thumbnail=thumbnail)


def _threshold(served: ServedGallery, score: AskedScore, result: MatchResult) -> ThresholdAnswer | None:
    if result.threshold is None:
        return None
    if score.fpr is None and score.fpir is None:
        return ThresholdAnswer(kind="score", rate=None, score=result.threshold, dataset=None)
    found = served.marks.found()
    dataset = None if found is None else found.record.dataset
    kind: Literal["fpr", "fpir"] = "fpr" if score.fpir is None else "fpir"
    return ThresholdAnswer(kind=kind, rate=score.fpr or score.fpir, score=result.threshold, dataset=dataset)


def _matches(
    service: Service,
    served: ServedGallery,
    asked: AskedQuery,
    result: MatchResult,
    marks: list[Mark],
) -> list[MatchAnswer]:
    if not result.matches:
        return []
    crops = crops_of(served, [_row(found) for found in result.matches], service.addresses)
    node = asked.kept if asked.crop is None else asked.crop.id
    is_new = asked.keeps is not None  # nobody has judged it yet
    verdicts = {} if node is None or is_new else served.book.verdicts_of(node)
    answers = []
    for found, crop in zip(result.matches, crops, strict=True):
        passed = strictest(marks, found.score)
        answers.append(
            MatchAnswer(
                **vars(crop),
                rank=found.rank,
                score=found.score,
                distance=found.distance,
                passes=None if passed is None else MarkAnswer(kind="fpr", rate=passed.rate, score=passed.score),
                verdict=verdicts.get(found.id),
                blocks=_blocks(result, found),
            )
        )
    return answers


def _blocks(result: MatchResult, found: Match) -> tuple[BlockAnswer, ...]:
    contrasts = found.contrasts or (None,) * len(result.blocks)
    return tuple(
        BlockAnswer(block.name, block.region, share, block.usual, block.spread, contrast)
        for block, share, contrast in zip(result.blocks, found.block_scores, contrasts, strict=True)
    )


def _row(found: Match) -> GalleryRow:
    """The row of a match, as far as answers show it."""
    return GalleryRow(
        found.path,
        camera=found.camera,
        person=found.person,
        time=found.time,
        frame=found.frame,
        track=found.track,
        label=found.label,
        source=found.source,
        id=found.id,
    )
