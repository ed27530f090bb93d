"""A search of the service: the query, the ranking, and what the answer tells besides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import FingerprintMismatchError, GalleryChangedError, GalleryError, ModelFileError, OutputError
from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.gallery.contract import Moment, read_in_one_moment
from rrid_edge.gallery.fields import descriptors_of
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.matching import DEFAULT_RERANK_DEPTH, Match, MatchResult, MatchSettings, match
from rrid_edge.people.book import KeptQuery
from rrid_edge.ranking.descriptors import mean_descriptor
from rrid_edge.serve.answers import crops_of
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
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
from rrid_edge.serve.uploads import EmbeddedUploads

_ATTEMPTS: Final = 3
_FUSED: Final = "no measured rates are shown: they were measured on queries of one image, and this query has {} of them"


@dataclass(frozen=True)
class SearchChoices:
    """How to search.

    Attributes:
        top_k: most matches.
        rows: which crops may answer.
        score: how the lowest score is set.
        rerank: whether the best crops are re-ranked by shared neighbours.
    """

    top_k: int
    rows: SearchFilter
    score: AskedScore
    rerank: bool


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


def query_of_crop(served: ServedGallery, id_: int) -> AskedQuery:
    """The query that a crop of the gallery is.

    Raises:
        RequestError: 404, no such crop.
    """

    def read(moment: Moment) -> tuple[GalleryRow, NDArray[np.float32]] | None:
        rows = moment.rows_by_id([id_])
        return (rows[0], moment.vectors(rows[:1])) if rows else None

    found = read_in_one_moment(served.store, read, _ATTEMPTS)
    if found is None:
        raise RequestError(f"crop {id_} is not in the gallery {served.name}: expected the id of a crop", status=404)
    row, stored = found
    unit = mean_descriptor(stored)  # stored as float16, its length is off by about 1e-4
    return AskedQuery(Query((row.name,), unit, row.person, row.camera), crop=row)


def kept_query(served: ServedGallery, name: str) -> AskedQuery:
    """A query that was kept.

    Raises:
        RequestError: 404, it is unknown or older than a day.
        FingerprintMismatchError: another model made it.
    """
    found = served.book.kept_query(name)
    if found is None:
        raise RequestError("no such query is kept: queries are kept for a day; give the images again", status=404)
    _refuse_foreign(served, found.fingerprint)
    return AskedQuery(Query(("query",), found.descriptor[None]), images=found.images, kept=name)


def query_of_descriptor(served: ServedGallery, values: Sequence[float], fingerprint: str) -> AskedQuery:
    """The query that a descriptor is.

    Raises:
        UsageError: its length or a value is wrong.
        FingerprintMismatchError: another model made it.
    """
    _refuse_foreign(served, fingerprint)
    return AskedQuery(Query(("descriptor",), descriptors_of(values, served.spec.dimension)))


def query_of_uploads(uploads: EmbeddedUploads) -> AskedQuery:
    """The query that uploaded images of one person are."""
    query = Query(uploads.names, uploads.descriptors, warnings=uploads.warnings)
    return AskedQuery(query, images=len(uploads.names), keeps=uploads.thumbnail)


def _refuse_foreign(served: ServedGallery, fingerprint: str) -> None:
    if fingerprint != served.spec.fingerprint:
        raise FingerprintMismatchError(
            f"the query was made by model {fingerprint[:12]}, and the gallery {served.name} by "
            f"{served.spec.fingerprint[:12]}: expected a query of the gallery's model; give the images again"
        )


def search(service: Service, served: ServedGallery, asked: AskedQuery, choices: SearchChoices) -> SearchAnswer:
    """Rank a gallery for a person. Blocking: it reads the gallery and the book.

    Raises:
        UsageError: a choice cannot be used.
        GalleryError: the gallery cannot be read.
    """
    start = time.perf_counter()
    settings = _settings(served, asked, choices)
    try:
        result = match(served.store, asked.query, settings, served.sample)
    except GalleryChangedError:
        served.store.info()  # raises the reason if the index was rebuilt with another model
        raise
    marks, doubts = _marks(served, asked)
    vector = mean_descriptor(asked.query.descriptors)[0]
    asked, unkept = _kept(served, asked, vector)
    answer = SearchAnswer(
        query=_query_answer(service, served, asked),
        gallery=served.name,
        fingerprint=served.spec.fingerprint,
        matches=_matches(service, served, asked, result, marks),
        threshold=_threshold(served, choices.score, result),
        marks=[MarkAnswer(kind="fpr", rate=mark.rate, score=mark.score) for mark in marks],
        separation=result.separation,
        others=result.others,
        searched=result.searched,
        mode=result.search,
        warnings=[*result.warnings, *doubts, *unkept],
    )
    answer.milliseconds.searching = (time.perf_counter() - start) * 1000
    return answer


def _settings(served: ServedGallery, asked: AskedQuery, choices: SearchChoices) -> MatchSettings:
    if asked.images > 1 and (choices.score.fpr is not None or choices.score.fpir is not None):
        name = "fpr" if choices.score.fpir is None else "fpir"
        raise RequestError(
            f"{name} and a query of {asked.images} images: the thresholds were measured on queries of one image; give "
            "min_score, or one image",
            parameter=(name,),
        )
    rows = choices.rows if asked.crop is None else _without(choices.rows, asked.crop)
    return MatchSettings(
        top_k=choices.top_k,
        rows=rows,
        threshold=served.marks.threshold(choices.score),
        rerank=max(DEFAULT_RERANK_DEPTH, choices.top_k) if choices.rerank else 0,
        least_likeness=served.marks.least_likeness(),
    )


def _without(rows: SearchFilter, crop: GalleryRow) -> SearchFilter:
    if crop.path is None:
        return replace(rows, not_ids=rows.not_ids | {crop.id})
    return replace(rows, not_files=rows.not_files | {(crop.source, crop.path)})  # Milvus' format 1 knows no ids


def _marks(served: ServedGallery, asked: AskedQuery) -> tuple[list[Mark], list[str]]:
    """The measured scores that hold for a query, and a line if they cannot be told."""
    try:
        marks = served.marks.marks()
    except ModelFileError as error:
        return [], [f"no measured rates are shown: {error.message}"]
    return (marks, []) if asked.images == 1 or not marks else ([], [_FUSED.format(asked.images)])


def _kept(served: ServedGallery, asked: AskedQuery, vector: NDArray[np.float32]) -> tuple[AskedQuery, list[str]]:
    """The query with the id under which it is kept, and a line if it cannot be kept."""
    if asked.keeps is None:
        return asked, []
    query = KeptQuery(vector, served.spec.fingerprint, asked.keeps, asked.images)
    try:
        return replace(asked, kept=served.book.keep_query(query)), []
    except (GalleryError, OutputError) as error:  # the answer is right all the same
        return asked, [f"the query is not kept: {error.message}"]


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
                **dict(crop),
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
