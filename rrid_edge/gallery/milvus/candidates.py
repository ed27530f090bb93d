"""Candidates of a search: which of them have to be read, and what they decide.

The index names keys, checksums and its own float32 scores. Rows and vectors are read once per key, and only of
candidates that may be hits. Their cosines are computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.milvus.rows import Entity, is_intact, vector_of
from rrid_edge.gallery.milvus.schema import KEY, Schema
from rrid_edge.gallery.shared import ROUNDING, exact_scores, row_order

CANDIDATE_FIELDS = (KEY, "crc32", "check32")
"""Fields that a search asks for. With a vector among them, Milvus 2.3 waits twice for consistency."""


@dataclass(frozen=True)
class Candidate:
    """A row as the index names it.

    Attributes:
        key: of the row.
        checks: ``crc32`` and ``check32`` of the row at the time of the search.
        score: of the index, within :data:`rrid_edge.gallery.shared.ROUNDING` of the cosine.
    """

    key: str
    checks: tuple[int, int]
    score: float

    @classmethod
    def of(cls, hit: Mapping[str, object]) -> Candidate:
        """The candidate of a hit of the client."""
        entity: Mapping[str, int] = hit["entity"]  # type: ignore[assignment]
        return cls(str(entity[KEY]), (entity["crc32"], entity["check32"]), float(hit["distance"]))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ranking:
    """Scored rows of one query.

    Attributes:
        hits: best first, ties by path.
        vectors: float32 (N, D), of the hits.
        scored: number of candidates whose vector was read.
    """

    hits: tuple[Hit, ...]
    vectors: NDArray[np.float32]
    scored: int


def checks_of(candidates: Iterable[Candidate]) -> dict[str, tuple[int, int]]:
    """Checksums by key. A key that no row can have is left out: its entry is damaged."""
    return {one.key: one.checks for one in candidates if one.key.isalnum()}


def nearest(candidates: Sequence[Candidate], top_k: int) -> list[Candidate]:
    """The candidates that may be among the best ``top_k``, ties and rounding included."""
    if len(candidates) <= top_k:
        return list(candidates)
    last = sorted((one.score for one in candidates), reverse=True)[top_k - 1]
    return [one for one in candidates if one.score >= last - 4 * float(ROUNDING)]


def ranked(
    query: NDArray[np.float32], candidates: Iterable[Candidate], entities: Mapping[str, Entity], schema: Schema
) -> Ranking:
    """The intact rows of some candidates by their exact cosines.

    Args:
        query: float32 (D,), unit length.
        candidates: of the query.
        entities: rows and vectors by key. A candidate that is not among them is left out.
        schema: of the collection.
    """
    found = [entities[one.key] for one in candidates if one.key in entities]
    rows, vectors = usable(found, schema)
    scores = exact_scores(query, vectors)
    hits = [Hit(row, float(score)) for row, score in zip(rows, scores, strict=True)]
    order = sorted(range(len(hits)), key=lambda index: hit_order(hits[index]))
    return Ranking(tuple(hits[index] for index in order), vectors[order], len(found))


def is_decided(
    ranking: Ranking, read: Sequence[Candidate], candidates: Sequence[Candidate], top_k: int, limit: int
) -> bool:
    """Whether no row that was not read can be among the best ``top_k``, ties and rounding included.

    Args:
        ranking: of the candidates that were read.
        read: those candidates.
        candidates: all that the index named.
        top_k: hits.
        limit: candidates requested. The index named all rows if it named fewer.
    """
    keys = {one.key for one in read}
    others = [one.score for one in candidates if one.key not in keys]
    if not others and len(candidates) < limit:
        return True
    if len(ranking.hits) < top_k:
        return False
    # Unnamed rows score no more than the last named one, up to rounding.
    best_other = max(others) if others else min(one.score for one in candidates)
    return best_other < ranking.hits[top_k - 1].score - 2 * float(ROUNDING)


def usable(entities: Sequence[Entity], schema: Schema) -> tuple[list[GalleryRow], NDArray[np.float32]]:
    """Rows and vectors, float32 (N, D), of the entities that match their checksums."""
    pairs = [(row, entity) for entity in entities if (row := schema.row_of(entity)) is not None and is_intact(entity)]
    if not pairs:
        return [], np.empty((0, 0), np.float32)
    return [row for row, _ in pairs], np.stack([vector_of(entity) for _, entity in pairs])


def hit_order(hit: Hit) -> tuple[float, bytes, int]:
    """Sort key of hits: best first, ties by path, then id."""
    return -hit.score, *row_order(hit.row)
