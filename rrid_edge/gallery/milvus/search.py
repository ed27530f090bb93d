"""Search in Milvus: the server's index names candidates; their cosines are computed here.

``flat``, and ``ivf`` with all of its lists, give exact answers. ``hnsw`` and ``diskann`` may miss rows and are used
only with ``fast``; without it every vector is read. Details: ``docs/decisions/milvus-gallery.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import Hit, SearchResult
from rrid_edge.gallery.milvus.candidates import (
    CANDIDATE_FIELDS,
    Candidate,
    Ranking,
    checks_of,
    hit_order,
    is_decided,
    nearest,
    ranked,
    usable,
)
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.facts import IVF_LISTS
from rrid_edge.gallery.milvus.making import METRIC
from rrid_edge.gallery.milvus.rows import MOST_ROWS_PER_ANSWER, STRONG, Entity, Reader, complete_answer
from rrid_edge.gallery.milvus.schema import VECTOR, Schema
from rrid_edge.gallery.shared import candidates, exact_scores

_EXTRA_CANDIDATES = 16
_CANDIDATES_PER_BATCH = 5000
"""Candidates of queries that share a call; their rows are held in memory, at most 80 MB at 3840 values."""
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
        vectors: float32 (D,), of the hits; empty after a scan.
    """

    hits: tuple[Hit, ...]
    mode: str
    scored: int
    vectors: Sequence[NDArray[np.float32]] = field(default=(), repr=False)


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
            for batch in _batches(undecided, limit):
                answers.update(self._decided(queries, batch, limit, request))
            undecided = [index for index in undecided if index not in answers]
            if request.fast or limit == MOST_ROWS_PER_ANSWER:
                break
            limit = min(MOST_ROWS_PER_ANSWER, 4 * limit)
        if undecided:  # the graph named too few rows under this filter, or more rows tie than one answer can hold
            answers.update(zip(undecided, self._scan(queries[undecided], request), strict=True))
        return [answers[index] for index in range(len(queries))]

    def _decided(
        self, queries: NDArray[np.float32], indexes: Sequence[int], limit: int, request: _Request
    ) -> dict[int, Answer]:
        """Answers by the query's index, for the queries that ``limit`` candidates decide.

        The rows of all queries are read with one call. Queries that these do not decide read the rest with another.
        """
        for _ in range(_TRIES):
            named = self._named(queries, indexes, limit, request)
            if request.fast:
                named = {index: found for index, found in named.items() if len(found) >= min(limit, request.count())}
            entities: dict[str, Entity] = {}
            answers: dict[int, Answer] = {}
            for choose in (None,) if request.fast else (nearest, None):
                wanted = {
                    index: choose(found, request.top_k) if choose else found
                    for index, found in named.items()
                    if index not in answers
                }
                if not self._read(wanted.values(), entities):
                    break
                for index, chosen in wanted.items():
                    ranking = ranked(queries[index], chosen, entities, self._schema)
                    if request.fast or is_decided(ranking, chosen, named[index], request.top_k, limit):
                        answers[index] = self._answer(ranking, request)
            else:
                return answers
        raise self._reader.incomplete(len(entities), len(checks_of(one for found in named.values() for one in found)))

    def _read(self, wanted: Iterable[Sequence[Candidate]], entities: dict[str, Entity]) -> bool:
        """Read the rows of candidates that ``entities`` lacks; False if one changed since the search."""
        checks = checks_of(one for chosen in wanted for one in chosen)
        missing = {key: checks[key] for key in checks.keys() - entities.keys()}
        entities.update(self._reader.by_checks(missing, self._reader.with_vectors))
        return checks.keys() <= entities.keys()

    def _answer(self, ranking: Ranking, request: _Request) -> Answer:
        top_k = request.top_k
        mode = f"fast {self._index_type}" if request.fast else self._index_type
        return Answer(ranking.hits[:top_k], mode, ranking.scored, list(ranking.vectors[:top_k]))

    def _named(
        self, queries: NDArray[np.float32], indexes: Sequence[int], limit: int, request: _Request
    ) -> Mapping[int, Sequence[Candidate]]:
        """Candidates of the index by the query's index; for an exact answer, all that ``limit`` allows."""
        found = dict(zip(indexes, self._index_search(queries[list(indexes)], limit, request), strict=True))
        for index, named in found.items():
            if not request.fast and len(named) < min(limit, request.count()):
                found[index] = complete_answer(
                    lambda index=index: self._index_search(queries[index][None], limit, request)[0],  # type: ignore[misc]
                    lambda: self._reader.count(request.expression),
                    limit,
                    self._reader,
                )
        return found

    def _index_search(self, queries: NDArray[np.float32], limit: int, request: _Request) -> list[Sequence[Candidate]]:
        answer = self._connection.call(
            "search",
            data=list(queries),
            anns_field=VECTOR,
            limit=limit,
            filter=request.expression,
            output_fields=list(CANDIDATE_FIELDS),
            search_params={"metric_type": METRIC, "params": self._search_parameters(limit, fast=request.fast)},
            consistency_level=STRONG,
        )
        return [list(map(Candidate.of, hits)) for hits in answer]

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
            rows, vectors = usable(page, self._schema)
            if not rows:
                continue
            scored += len(rows)
            for hits, query, scores in zip(best, queries, queries @ vectors.T, strict=True):
                chosen = candidates(scores, np.arange(len(rows)), request.top_k)
                exact = exact_scores(query, vectors[chosen])
                hits += [Hit(rows[index], float(score)) for index, score in zip(chosen.tolist(), exact, strict=True)]
                hits.sort(key=hit_order)
                del hits[request.top_k :]
        return [Answer(tuple(hits), "scan", scored) for hits in best]


def search_result(answers: Sequence[Answer], passing: int) -> SearchResult:
    """The result of a search, of its answers and the number of rows that pass its filter."""
    hits, modes, scored = ([getattr(answer, name) for answer in answers] for name in ("hits", "mode", "scored"))
    return SearchResult(tuple(hits), tuple(modes), passing, tuple(scored))


def _batches(indexes: Sequence[int], limit: int) -> list[Sequence[int]]:
    """Queries that share one call."""
    size = max(1, _CANDIDATES_PER_BATCH // limit)
    return [indexes[start : start + size] for start in range(0, len(indexes), size)]
