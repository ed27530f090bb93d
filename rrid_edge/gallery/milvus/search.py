"""Search in Milvus: its index names candidates, their cosines are computed here, so that answers are those of other stores.

With an index that is exhaustive (``flat``; ``ivf`` with all of its lists) the answer is exact: more candidates than hits
are asked for, until the last of them lies clearly below the last hit. A graph (``hnsw``, ``diskann``) may miss rows, and is
used for ``fast`` alone; without ``fast`` all vectors are read and compared, which is as slow as it is exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import Hit
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.rows import MOST_AT_ONCE, STRONG, Reader, is_sound, vector_of, whole
from rrid_edge.gallery.milvus.schema import FACTS, IVF_LISTS, KEY, VECTOR
from rrid_edge.gallery.shared import ROUNDING, candidates, exact_scores

METRIC = "IP"
"""Inner product: the cosine of unit vectors."""
_MORE = 16
_ANSWER_BYTES = 32 << 20
_FAST_CANDIDATES = 32
_TRIES = 3
_FAST_LISTS = 32


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Attributes:
        hits: best first, ties by path.
        mode: kind of the index, or ``scan``.
        scored: rows whose cosine was computed here.
    """

    hits: tuple[Hit, ...]
    mode: str
    scored: int


@dataclass(frozen=True)
class _Question:
    """What is asked of every query: see :meth:`Searcher.search`; ``fast`` only where the index can miss rows."""

    top_k: int
    expression: str
    count: Callable[[], int]
    fast: bool


class Searcher:
    """Searches one collection.

    Args:
        connection: to it.
        reader: of it.
        index_type: key of :data:`rrid_edge.gallery.milvus.schema.INDEX_TYPES`.
        dimension: values of a vector.
    """

    def __init__(self, connection: Connection, reader: Reader, index_type: str, dimension: int) -> None:
        self._connection, self._reader, self._index_type = connection, reader, index_type
        self._row_bytes = 4 * dimension + 1024

    def search(
        self, queries: NDArray[np.float32], top_k: int, expression: str, count: Callable[[], int], *, fast: bool
    ) -> list[Answer]:
        """Answers to queries (Q, D).

        Args:
            queries: float32, unit length.
            top_k: hits, at most 16,384.
            expression: which rows may answer.
            count: tells how many rows pass it.
            fast: take the index's word for which rows are candidates.

        Raises:
            GalleryError: answers that are not whole.
        """
        ask = _Question(top_k, expression, count, fast=fast and self._index_type != "flat")
        if self._index_type in ("hnsw", "diskann") and not fast:
            return self._scan(queries, ask)
        answers: dict[int, Answer] = {}
        left = list(range(len(queries)))
        limit = min(MOST_AT_ONCE, max(top_k + _MORE, _FAST_CANDIDATES if ask.fast else 0))
        while left:
            for part in self._parts(left, limit):
                answers.update(self._answered(queries, part, limit, ask))
            left = [index for index in left if index not in answers]
            if ask.fast or limit == MOST_AT_ONCE:
                break
            limit = min(MOST_AT_ONCE, 4 * limit)
        if left:  # a graph that runs dry under a filter is no answer; nor is a tie of more rows than Milvus can name
            answers.update(zip(left, self._scan(queries[left], ask), strict=True))
        return [answers[index] for index in range(len(queries))]

    def _parts(self, left: Sequence[int], limit: int) -> list[Sequence[int]]:
        """Queries whose answers together fit a message."""
        size = max(1, _ANSWER_BYTES // (self._row_bytes * limit))
        return [left[start : start + size] for start in range(0, len(left), size)]

    def _answered(
        self, queries: NDArray[np.float32], part: Sequence[int], limit: int, ask: _Question
    ) -> dict[int, Answer]:
        """Answers to those queries of ``part`` that ``limit`` candidates decide, by the query's index."""
        answers = {}
        for index, entities in zip(part, self._candidates(queries[list(part)], limit, ask), strict=True):
            answer = (self._fast if ask.fast else self._exact)(queries[index], entities, limit, ask)
            if answer is not None:
                answers[index] = answer
        return answers

    def _fast(
        self, query: NDArray[np.float32], entities: Sequence[Mapping[str, Any]], limit: int, ask: _Question
    ) -> Answer | None:
        """The answer from the candidates of an approximate index; None where it named too few."""
        if len(entities) < min(limit, ask.count()):
            return None
        hits = _ranked(query, entities, self._reader)[: ask.top_k]
        return Answer(hits, f"fast {self._index_type}", len(entities))

    def _exact(
        self, query: NDArray[np.float32], entities: Sequence[Mapping[str, Any]], limit: int, ask: _Question
    ) -> Answer | None:
        """The answer from candidates; None where a row beyond them could belong to it."""
        if len(entities) < min(limit, ask.count()):
            entities = whole(
                lambda: self._candidates(query[None], limit, ask)[0],
                lambda: self._reader.count(ask.expression),
                limit,
                self._reader,
            )
        hits = _ranked(query, entities, self._reader)
        all_named = len(entities) < limit
        if all_named or (len(hits) >= ask.top_k and _is_clear(entities, hits[ask.top_k - 1].score)):
            return Answer(hits[: ask.top_k], self._index_type, len(entities))
        return None

    def _candidates(self, queries: NDArray[np.float32], limit: int, ask: _Question) -> list[list[Mapping[str, Any]]]:
        """What the index names for every query, vectors and all, with its own score as ``distance``."""
        if len(queries) * limit * self._row_bytes <= _ANSWER_BYTES:
            return self._named(queries, limit, ask, vectors=True)
        for _ in range(_TRIES):  # more than a message holds: names first, then their vectors
            named = self._named(queries, limit, ask, vectors=False)
            found = self._reader.by_keys((entity[KEY] for own in named for entity in own), vectors=True)
            if all(entity[KEY] in found for own in named for entity in own):
                return [[{**found[entity[KEY]], "distance": entity["distance"]} for entity in own] for own in named]
        raise self._reader.partial(len(found), sum(map(len, named)))

    def _named(
        self, queries: NDArray[np.float32], limit: int, ask: _Question, *, vectors: bool
    ) -> list[list[Mapping[str, Any]]]:
        found = self._connection.call(
            "search",
            data=list(queries),
            anns_field=VECTOR,
            limit=limit,
            filter=ask.expression,
            output_fields=[*FACTS, VECTOR] if vectors else list(FACTS),
            search_params={"metric_type": METRIC, "params": self._parameters(limit, fast=ask.fast)},
            consistency_level=STRONG,
        )
        return [[{**hit["entity"], "distance": hit["distance"]} for hit in hits] for hits in found]

    def _parameters(self, limit: int, *, fast: bool) -> dict[str, int]:
        return {
            "flat": {},
            "ivf": {"nprobe": _FAST_LISTS if fast else IVF_LISTS},
            "hnsw": {"ef": max(2 * limit, 256)},
            "diskann": {"search_list": max(2 * limit, 128)},
        }[self._index_type]

    def _scan(self, queries: NDArray[np.float32], ask: _Question) -> list[Answer]:
        """Read every vector that passes and compare it here."""
        best: list[list[Hit]] = [[] for _ in queries]
        looked_at = 0
        for page in self._reader.entities(ask.expression, vectors=True):
            sound = [entity for entity in page if is_sound(entity)]
            if not sound:
                continue
            looked_at += len(sound)
            vectors = np.stack([vector_of(entity) for entity in sound])
            for own, query, scores in zip(best, queries, queries @ vectors.T, strict=True):
                chosen = candidates(scores, np.arange(len(sound)), ask.top_k)
                exact = exact_scores(query, vectors[chosen])
                own += [
                    Hit(self._reader.row(sound[index]), float(score))
                    for index, score in zip(chosen.tolist(), exact, strict=True)
                ]
                own.sort(key=_order)
                del own[ask.top_k :]
        return [Answer(tuple(own), "scan", looked_at) for own in best]


def _order(hit: Hit) -> tuple[float, bytes]:
    return -hit.score, os.fsencode(hit.row.path)


def _ranked(query: NDArray[np.float32], entities: Sequence[Mapping[str, Any]], reader: Reader) -> tuple[Hit, ...]:
    """Sound candidates by their exact cosines, ties by path."""
    sound = [entity for entity in entities if is_sound(entity)]
    if not sound:
        return ()
    scores = exact_scores(query, np.stack([vector_of(entity) for entity in sound]))
    hits = [Hit(reader.row(entity), float(score)) for entity, score in zip(sound, scores, strict=True)]
    return tuple(sorted(hits, key=_order))


def _is_clear(entities: Sequence[Mapping[str, Any]], last_score: float) -> bool:
    """Whether no row beyond the candidates can reach the last hit, ties and rounding included."""
    return float(min(entity["distance"] for entity in entities)) < last_score - 2 * float(ROUNDING)
