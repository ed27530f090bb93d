"""Search in Milvus: the server's index names candidates; their cosines are computed here.

``flat``, and ``ivf`` with all of its lists, give exact answers. ``hnsw`` and ``diskann`` may miss rows and are used
only with ``fast``; without it every vector is read. Details: ``docs/decisions/milvus-gallery.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.facts import IVF_LISTS
from rrid_edge.gallery.milvus.making import METRIC
from rrid_edge.gallery.milvus.rows import (
    MOST_ROWS_PER_ANSWER,
    STRONG,
    Entity,
    Reader,
    complete_answer,
    is_intact,
    vector_of,
)
from rrid_edge.gallery.milvus.schema import KEY, VECTOR, Schema
from rrid_edge.gallery.shared import ROUNDING, candidates, exact_scores, row_order

_EXTRA_CANDIDATES = 16
_ANSWER_BYTES = 32 << 20
_FAST_CANDIDATES = 32
_FAST_LISTS = 32
_TRIES = 3
_RETRY_PAUSE_S = 1.0


def accepted_queries(queries: NDArray[np.float32], top_k: int, dimension: int) -> NDArray[np.float32]:
    """Queries (Q, ``dimension``) as contiguous float32.

    Raises:
        UsageError: the shape or ``top_k`` is wrong.
    """
    result = np.ascontiguousarray(queries, np.float32)
    if result.ndim != 2 or result.shape[1] != dimension or not 1 <= top_k <= MOST_ROWS_PER_ANSWER:
        raise UsageError(
            f"queries of shape {result.shape}, top {top_k}: expected (Q, {dimension}) and 1 to "
            f"{MOST_ROWS_PER_ANSWER:,} hits in Milvus",
            parameter="top_k",
        )
    return result


@dataclass(frozen=True)
class Answer:
    """The answer to one query.

    Attributes:
        hits: best first, ties by path.
        mode: index type, or ``scan``.
        scored: rows whose cosine was computed here.
    """

    hits: tuple[Hit, ...]
    mode: str
    scored: int


@dataclass(frozen=True)
class _Request:
    """What all queries of one search share; ``fast`` is set only for an index that can miss rows."""

    top_k: int
    expression: str
    count: Callable[[], int]
    fast: bool


class Searcher:
    """Searches one collection.

    Args:
        connection: to the collection.
        reader: of the collection.
        schema: of the collection.
        index_type: key of :data:`rrid_edge.gallery.milvus.facts.INDEX_TYPES`.
    """

    def __init__(self, connection: Connection, reader: Reader, schema: Schema, index_type: str) -> None:
        self._connection, self._reader, self._schema, self._index_type = connection, reader, schema, index_type
        self._row_bytes = reader.with_vectors.bytes + 1024

    def search(
        self, queries: NDArray[np.float32], top_k: int, expression: str, *, fast: bool
    ) -> tuple[list[Answer], int]:
        """Answers to queries; repeated while rows are missing, up to the time limit of a call.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits per query, at most 16,384.
            expression: which rows may answer; empty for all.
            fast: accept the candidates of an approximate index.

        Returns:
            The answers, and the number of rows that match ``expression``.

        Raises:
            GalleryError: rows are still missing after the time limit.
        """
        deadline = time.monotonic() + self._connection.timeout_s
        while True:
            with ThreadPoolExecutor(2) as pool:  # each call waits 0.2 s for consistency, so they run at the same time
                total = pool.submit(self._reader.count)
                passing = pool.submit(self._reader.count, expression) if expression else total
                request = _Request(top_k, expression, passing.result, fast=fast and self._index_type != "flat")
                answers = self._search_once(queries, request, exhaustive=not fast) if len(queries) else []
            if self._reader.is_complete(total.result()):
                return answers, passing.result()
            if time.monotonic() > deadline:
                raise self._reader.incomplete(total.result(), self._reader.least_rows())
            time.sleep(_RETRY_PAUSE_S)

    def _search_once(self, queries: NDArray[np.float32], request: _Request, *, exhaustive: bool) -> list[Answer]:
        """Ask for more candidates until each query is decided; scan for the queries that never are."""
        if self._index_type in ("hnsw", "diskann") and exhaustive:
            return self._scan(queries, request)
        answers: dict[int, Answer] = {}
        undecided = list(range(len(queries)))
        limit = min(
            MOST_ROWS_PER_ANSWER, max(request.top_k + _EXTRA_CANDIDATES, _FAST_CANDIDATES if request.fast else 0)
        )
        while undecided:
            for batch in self._batches(undecided, limit):
                answers.update(self._decided(queries, batch, limit, request))
            undecided = [index for index in undecided if index not in answers]
            if request.fast or limit == MOST_ROWS_PER_ANSWER:
                break
            limit = min(MOST_ROWS_PER_ANSWER, 4 * limit)
        if undecided:  # the graph named too few rows under this filter, or more rows tie than one answer can hold
            answers.update(zip(undecided, self._scan(queries[undecided], request), strict=True))
        return [answers[index] for index in range(len(queries))]

    def _batches(self, indexes: Sequence[int], limit: int) -> list[Sequence[int]]:
        """Queries whose answers together fit one message."""
        size = max(1, _ANSWER_BYTES // (self._row_bytes * limit))
        return [indexes[start : start + size] for start in range(0, len(indexes), size)]

    def _decided(
        self, queries: NDArray[np.float32], indexes: Sequence[int], limit: int, request: _Request
    ) -> dict[int, Answer]:
        """Answers by the query's index, for the queries that ``limit`` candidates decide."""
        decide = self._fast_answer if request.fast else self._exact_answer
        answers = {}
        for index, entities in zip(indexes, self._candidates(queries[list(indexes)], limit, request), strict=True):
            answer = decide(queries[index], entities, limit, request)
            if answer is not None:
                answers[index] = answer
        return answers

    def _fast_answer(
        self, query: NDArray[np.float32], entities: Sequence[Entity], limit: int, request: _Request
    ) -> Answer | None:
        """The answer from the candidates of an approximate index; None if it named too few."""
        if len(entities) < min(limit, request.count()):
            return None
        hits = _ranked(query, entities, self._schema)[: request.top_k]
        return Answer(hits, f"fast {self._index_type}", len(entities))

    def _exact_answer(
        self, query: NDArray[np.float32], entities: Sequence[Entity], limit: int, request: _Request
    ) -> Answer | None:
        """The answer from candidates; None if a row beyond them could be a hit."""
        if len(entities) < min(limit, request.count()):
            entities = complete_answer(
                lambda: self._candidates(query[None], limit, request)[0],
                lambda: self._reader.count(request.expression),
                limit,
                self._reader,
            )
        hits = _ranked(query, entities, self._schema)
        has_all_rows = len(entities) < limit
        if has_all_rows or (
            len(hits) >= request.top_k and _is_clear(entities, last_score=hits[request.top_k - 1].score)
        ):
            return Answer(hits[: request.top_k], self._index_type, len(entities))
        return None

    def _candidates(self, queries: NDArray[np.float32], limit: int, request: _Request) -> list[list[Entity]]:
        """Candidates of the index for each query, with vectors and the index's own score as ``distance``."""
        if len(queries) * limit * self._row_bytes <= _ANSWER_BYTES:
            return self._index_search(queries, limit, request, vectors=True)
        for _ in range(_TRIES):  # too large for one message: keys first, then the vectors of these keys
            named = self._index_search(queries, limit, request, vectors=False)
            entities = self._reader.by_keys(
                (entity[KEY] for hits in named for entity in hits), self._reader.with_vectors
            )
            if all(entity[KEY] in entities for hits in named for entity in hits):
                return [[{**entities[hit[KEY]], "distance": hit["distance"]} for hit in hits] for hits in named]
        raise self._reader.incomplete(len(entities), sum(map(len, named)))

    def _index_search(
        self, queries: NDArray[np.float32], limit: int, request: _Request, *, vectors: bool
    ) -> list[list[Entity]]:
        answer = self._connection.call(
            "search",
            data=list(queries),
            anns_field=VECTOR,
            limit=limit,
            filter=request.expression,
            output_fields=list((self._reader.with_vectors if vectors else self._reader.scalars).names),
            search_params={"metric_type": METRIC, "params": self._search_parameters(limit, fast=request.fast)},
            consistency_level=STRONG,
        )
        return [[{**hit["entity"], "distance": hit["distance"]} for hit in hits] for hits in answer]

    def _search_parameters(self, limit: int, *, fast: bool) -> dict[str, int]:
        return {
            "flat": {},
            "ivf": {"nprobe": _FAST_LISTS if fast else IVF_LISTS},
            "hnsw": {"ef": max(2 * limit, 256)},
            "diskann": {"search_list": max(2 * limit, 128)},
        }[self._index_type]

    def _scan(self, queries: NDArray[np.float32], request: _Request) -> list[Answer]:
        """Read every vector that matches the expression and compute its cosines here."""
        best: list[list[Hit]] = [[] for _ in queries]
        scored = 0
        for page in self._reader.entities(self._reader.with_vectors, request.expression):
            rows, vectors = _usable(page, self._schema)
            if not rows:
                continue
            scored += len(rows)
            for hits, query, scores in zip(best, queries, queries @ vectors.T, strict=True):
                chosen = candidates(scores, np.arange(len(rows)), request.top_k)
                exact = exact_scores(query, vectors[chosen])
                hits += [Hit(rows[index], float(score)) for index, score in zip(chosen.tolist(), exact, strict=True)]
                hits.sort(key=_order)
                del hits[request.top_k :]
        return [Answer(tuple(hits), "scan", scored) for hits in best]


def _order(hit: Hit) -> tuple[float, bytes, int]:
    return -hit.score, *row_order(hit.row)


def _usable(entities: Sequence[Entity], schema: Schema) -> tuple[list[GalleryRow], NDArray[np.float32]]:
    """Rows and vectors, float32 (N, D), of the entities that match their checksums."""
    pairs = [(row, entity) for entity in entities if (row := schema.row_of(entity)) is not None and is_intact(entity)]
    if not pairs:
        return [], np.empty((0, 0), np.float32)
    return [row for row, _ in pairs], np.stack([vector_of(entity) for _, entity in pairs])


def _ranked(query: NDArray[np.float32], entities: Sequence[Entity], schema: Schema) -> tuple[Hit, ...]:
    """Intact candidates by their exact cosines, ties by path."""
    rows, vectors = _usable(entities, schema)
    hits = [Hit(row, float(score)) for row, score in zip(rows, exact_scores(query, vectors), strict=True)]
    return tuple(sorted(hits, key=_order))


def _is_clear(entities: Sequence[Entity], *, last_score: float) -> bool:
    """Whether no row beyond the candidates can reach the last hit, ties and rounding included."""
    return float(min(entity["distance"] for entity in entities)) < last_score - 2 * float(ROUNDING)
