"""A search of the service: the query, the ranking, and what the answer tells besides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.queries import Query
from rrid_edge.errors import FingerprintMismatchError, GalleryChangedError, RridEdgeError
from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.gallery.contract import Moment, read_in_one_moment
from rrid_edge.gallery.fields import descriptors_of
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.matching import DEFAULT_RERANK_DEPTH, MatchResult, MatchSettings, match_all
from rrid_edge.ranking.descriptors import mean_descriptor
from rrid_edge.serve.answering import AskedQuery, Ranked, answers_to
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.search_answers import SearchAnswer
from rrid_edge.serve.service import Service
from rrid_edge.serve.uploads import EmbeddedUploads

_ATTEMPTS: Final = 3


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
    results = _matched(served, [asked], _settings(served, asked, choices))
    return answers_to(service, served, [asked], choices.score, Ranked(results, start))[0]


def search_together(
    service: Service, served: ServedGallery, asked: Sequence[AskedQuery], choices: SearchChoices
) -> list[SearchAnswer | RridEdgeError]:
    """:func:`search` for several uploaded queries of the same choices, in one moment. Blocking.

    Returns:
        For each query, in their order, its answer or what :func:`search` would raise.
    """
    try:
        start = time.perf_counter()
        settings = [_settings(served, one, choices) for one in asked]
        if all(one == settings[0] for one in settings):
            results = _matched(served, asked, settings[0])
            return [*answers_to(service, served, asked, choices.score, Ranked(results, start))]
    except RridEdgeError as error:
        if len(asked) == 1:
            return [error]
    found: list[SearchAnswer | RridEdgeError] = []
    for one in asked:  # what is wrong with one query must not fail the others
        try:
            found.append(search(service, served, one, choices))
        except RridEdgeError as error:
            found.append(error)
    return found


def _matched(served: ServedGallery, asked: Sequence[AskedQuery], settings: MatchSettings) -> tuple[MatchResult, ...]:
    try:
        return match_all(served.store, [one.query for one in asked], settings, served.sample)
    except GalleryChangedError:
        served.store.info()  # raises the reason if the index was rebuilt with another model
        raise


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
