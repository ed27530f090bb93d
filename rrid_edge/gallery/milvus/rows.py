"""Reading rows out of Milvus, all of them, whatever their number, and refusing answers that are not whole.

Milvus answers at most 16,384 rows at once, in no order that all versions keep. Keys are hashes, so ranges of keys are pages
of nearly equal size: each is asked for by itself and is whole where it holds fewer rows than the limit. Every read is
``Strong``: it waits until everything written before it is seen (about 0.2 s on a server).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import GalleryError
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.schema import (
    FACTS,
    KEY,
    VECTOR,
    both,
    checksum,
    key_expressions,
    key_ranges,
    range_expression,
    row_of,
)

STRONG = "Strong"
MOST_AT_ONCE = 16_384
"""Rows that Milvus gives in one answer."""
_ROWS_A_PAGE = 8000
_PAGE_BYTES = 16 << 20
"""Of vectors asked for at once; a message may have 64 MB."""
_TRIES = 3
_PAUSE_S = 1.0


class Reader:
    """Reads one collection.

    Args:
        connection: to it.
        dimension: values of a vector.
        at_least: tells how many rows there must be.

    Attributes:
        vectors_at_once: rows whose vectors fit one message.
    """

    def __init__(self, connection: Connection, dimension: int, at_least: Callable[[], int]) -> None:
        self._connection, self._at_least = connection, at_least
        self.vectors_at_once = max(1, min(_ROWS_A_PAGE, _PAGE_BYTES // (4 * dimension)))
        self.where = str(connection.address)

    def count(self, expression: str = "") -> int:
        """Number of rows that pass."""
        found = self._connection.call("query", filter=expression, output_fields=["count(*)"], consistency_level=STRONG)
        return int(found[0]["count(*)"])

    def count_all(self) -> int:
        """Number of all rows, once there are as many as there must be.

        A server that has lost a query node answers from what is left, for half a minute or so, and counts no more than that.

        Raises:
            GalleryError: it does not find them within the time limit of a call.
        """
        deadline = time.monotonic() + self._connection.timeout_s
        while True:
            found, expected = self.count(), self._at_least()
            if found >= expected:
                return found
            if time.monotonic() > deadline:
                raise self.partial(found, expected)
            time.sleep(_PAUSE_S)

    def is_whole(self, total: int) -> bool:
        """Whether a count of all rows finds as many as there must be."""
        return total >= self._at_least()

    def entities(self, expression: str = "", *, vectors: bool) -> Iterator[list[Mapping[str, Any]]]:
        """All rows that pass, in pages; every page is one moment of the collection.

        Raises:
            GalleryError: the pages together hold fewer or more rows than there are: some query node did not answer.
        """
        total = self.count_all()
        expected, found = self.count(expression) if expression else total, 0
        at_once = self.vectors_at_once if vectors else _ROWS_A_PAGE
        for start, stop in key_ranges(-(-expected // (at_once // 2 or 1)) or 1):
            for page in self._range(expression, start, stop, vectors=vectors):
                found += len(page)
                yield page
        if found != expected:
            now = self.count(expression)
            if not min(expected, now) <= found <= max(expected, now):
                raise self.partial(found, now)

    def _range(self, expression: str, start: int, stop: int, *, vectors: bool) -> Iterator[list[Mapping[str, Any]]]:
        limit = min(2 * self.vectors_at_once, MOST_AT_ONCE) if vectors else MOST_AT_ONCE
        page = self._query(both(expression, range_expression(start, stop)), vectors=vectors, limit=limit)
        if len(page) < limit or stop - start < 2:
            yield page
            return
        middle = (start + stop) // 2
        for part in ((start, middle), (middle, stop)):
            yield from self._range(expression, *part, vectors=vectors)

    def _query(self, expression: str, *, vectors: bool, limit: int) -> list[Mapping[str, Any]]:
        fields = [*FACTS, VECTOR] if vectors else list(FACTS)
        return list(
            self._connection.call(
                "query", filter=expression, output_fields=fields, limit=limit, consistency_level=STRONG
            )
        )

    def by_keys(self, keys: Iterable[str], *, vectors: bool) -> dict[str, Mapping[str, Any]]:
        """The rows of some keys; those that are not there are left out."""
        at_once = min(1000, self.vectors_at_once)
        found: dict[str, Mapping[str, Any]] = {}
        for expression in key_expressions(keys, at_once):
            for entity in self._query(expression, vectors=vectors, limit=at_once):
                found[entity[KEY]] = entity
        return found

    def row(self, entity: Mapping[str, Any]) -> GalleryRow:
        """The row of an entity; see :func:`rrid_edge.gallery.milvus.schema.row_of`."""
        return row_of(entity, self.where)

    def partial(self, found: int, expected: int) -> GalleryError:
        """The refusal of an answer that is not whole."""
        return GalleryError(
            f"{self.where}: Milvus answered only in part ({found:,} of {expected:,} crops), so nothing is answered; look at "
            "its query nodes (at least two replicas keep answers whole while one is replaced) and try again"
        )


def vector_of(entity: Mapping[str, Any]) -> NDArray[np.float32]:
    """The vector of an entity: float32 (D,)."""
    return np.asarray(entity[VECTOR], np.float32)


def is_sound(entity: Mapping[str, Any]) -> bool:
    """Whether the vector of an entity fits its checksum."""
    return checksum(vector_of(entity)) == int(entity["crc32"])


def whole(ask: Callable[[], Sequence[Any]], expected: Callable[[], int], limit: int, reader: Reader) -> Sequence[Any]:
    """An answer of ``limit`` rows, or of all that there are.

    Args:
        ask: asks for at most ``limit`` rows.
        expected: counts the rows that pass.
        limit: rows asked for.
        reader: words the refusal.

    Raises:
        GalleryError: fewer rows than there are came several times: rows were not removed meanwhile, they are missing.
    """
    there = -1
    for _ in range(_TRIES):
        answer = ask()
        if len(answer) >= limit or len(answer) == there:
            return answer
        there = expected()
        if len(answer) >= min(limit, there):
            return answer
    raise reader.partial(len(answer), min(limit, there))
