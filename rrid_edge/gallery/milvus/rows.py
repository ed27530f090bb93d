"""Reading any number of rows from Milvus; incomplete answers are refused.

Milvus returns at most 16,384 rows per answer, in no stable order. Rows are therefore read in ranges of their keys. Keys
are hashes, so ranges of equal width hold about as many rows. A range is complete if it returns fewer rows than the
limit. Every read has consistency level ``Strong``: it sees all earlier writes and takes about 0.2 s on a server.
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
    KEY,
    SCALAR_FIELDS,
    VECTOR,
    and_expression,
    checksum,
    key_expressions,
    key_of,
    key_ranges,
    range_expression,
    row_of,
)

STRONG = "Strong"
MOST_ROWS_PER_ANSWER = 16_384
"""Limit of Milvus."""
_ROWS_PER_PAGE = 8000
_PAGE_BYTES = 16 << 20
"""Bytes of vectors per page; Milvus limits a message to 64 MB."""
_TRIES = 3
_PAUSE_S = 1.0


class Reader:
    """Reads the rows of one collection.

    Args:
        connection: to the collection.
        dimension: values per vector.
        least_rows: returns a lower bound of the number of rows, from the collection's properties.

    Attributes:
        least_rows: as given.
        vectors_per_message: rows whose vectors fit one message.
        where: the address, as messages name it.
    """

    def __init__(self, connection: Connection, dimension: int, least_rows: Callable[[], int]) -> None:
        self._connection, self.least_rows, self._dimension = connection, least_rows, dimension
        self.vectors_per_message = max(1, min(_ROWS_PER_PAGE, _PAGE_BYTES // (4 * dimension)))
        self.where = str(connection.address)

    def count(self, expression: str = "") -> int:
        """Number of rows that match ``expression``."""
        answer = self._connection.call("query", filter=expression, output_fields=["count(*)"], consistency_level=STRONG)
        return int(answer[0]["count(*)"])

    def count_all(self) -> int:
        """Number of all rows; waits until it reaches the known lower bound.

        A server that has lost a query node counts only the remaining rows, for about 30 s.

        Raises:
            GalleryError: rows are still missing after the time limit of a call.
        """
        deadline = time.monotonic() + self._connection.timeout_s
        while True:
            total, expected = self.count(), self.least_rows()
            if total >= expected:
                return total
            if time.monotonic() > deadline:
                raise self.incomplete(total, expected)
            time.sleep(_PAUSE_S)

    def is_complete(self, total: int) -> bool:
        """Whether a count of all rows reaches the known lower bound."""
        return total >= self.least_rows()

    def entities(self, expression: str = "", *, vectors: bool) -> Iterator[list[Mapping[str, Any]]]:
        """All rows that match, in pages. Each page is one snapshot of the collection.

        Raises:
            GalleryError: the pages hold fewer or more rows than were counted: a query node did not answer.
        """
        total = self.count_all()
        expected, received = self.count(expression) if expression else total, 0
        page_rows = self.vectors_per_message if vectors else _ROWS_PER_PAGE
        for start, stop in key_ranges(-(-expected // (page_rows // 2 or 1)) or 1):
            for page in self._range(expression, start, stop, vectors=vectors):
                received += len(page)
                yield page
        if received != expected:
            now = self.count(expression)
            if not min(expected, now) <= received <= max(expected, now):
                raise self.incomplete(received, now)

    def _range(self, expression: str, start: int, stop: int, *, vectors: bool) -> Iterator[list[Mapping[str, Any]]]:
        """Rows whose keys lie in a range; a range that reaches the limit is halved."""
        limit = min(2 * self.vectors_per_message, MOST_ROWS_PER_ANSWER) if vectors else MOST_ROWS_PER_ANSWER
        page = self._query(and_expression(expression, range_expression(start, stop)), vectors=vectors, limit=limit)
        if len(page) < limit or stop - start < 2:
            yield page
            return
        middle = (start + stop) // 2
        for half in ((start, middle), (middle, stop)):
            yield from self._range(expression, *half, vectors=vectors)

    def _query(self, expression: str, *, vectors: bool, limit: int) -> list[Mapping[str, Any]]:
        fields = [*SCALAR_FIELDS, VECTOR] if vectors else list(SCALAR_FIELDS)
        return list(
            self._connection.call(
                "query", filter=expression, output_fields=fields, limit=limit, consistency_level=STRONG
            )
        )

    def by_keys(self, keys: Iterable[str], *, vectors: bool) -> dict[str, Mapping[str, Any]]:
        """Entities by key; missing keys are left out."""
        batch_keys = min(1000, self.vectors_per_message)
        entities: dict[str, Mapping[str, Any]] = {}
        for expression in key_expressions(keys, batch_keys):
            for entity in self._query(expression, vectors=vectors, limit=batch_keys):
                entities[entity[KEY]] = entity
        return entities

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D).

        Raises:
            GalleryError: a row no longer exists, or its vector does not match its checksum.
        """
        result = np.empty((len(rows), self._dimension), np.float32)
        for start in range(0, len(rows), self.vectors_per_message):
            keys = [key_of(row.path) for row in rows[start : start + self.vectors_per_message]]
            entities = self.by_keys(keys, vectors=True)
            unusable = [key for key in keys if key not in entities or not is_intact(entities[key])]
            if unusable:
                raise GalleryError(
                    f"{self.where}: {len(unusable)} of the requested crops are gone or damaged; see: rrid-edge gallery "
                    "verify"
                )
            for index, key in enumerate(keys, start):
                result[index] = vector_of(entities[key])
        return result

    def row(self, entity: Mapping[str, Any]) -> GalleryRow:
        """The row of an entity; see :func:`rrid_edge.gallery.milvus.schema.row_of`."""
        return row_of(entity, self.where)

    def incomplete(self, received: int, expected: int) -> GalleryError:
        """The error for an incomplete answer."""
        return GalleryError(
            f"{self.where}: Milvus returned only {received:,} of {expected:,} crops, so there is no answer; check its "
            "query nodes and try again (with two replicas, answers stay complete while a node is replaced)"
        )


def vector_of(entity: Mapping[str, Any]) -> NDArray[np.float32]:
    """The vector of an entity: float32 (D,)."""
    return np.asarray(entity[VECTOR], np.float32)


def is_intact(entity: Mapping[str, Any]) -> bool:
    """Whether the vector of an entity matches its checksum."""
    return checksum(vector_of(entity)) == int(entity["crc32"])


def complete_answer(
    ask: Callable[[], Sequence[Any]], count: Callable[[], int], limit: int, reader: Reader
) -> Sequence[Any]:
    """An answer of ``limit`` rows, or of all rows that match.

    Args:
        ask: requests at most ``limit`` rows.
        count: counts the rows that match.
        limit: rows requested.
        reader: makes the error.

    Raises:
        GalleryError: repeated answers hold fewer rows than were counted. So rows are missing, not removed meanwhile.
    """
    expected = -1
    for _ in range(_TRIES):
        answer = ask()
        if len(answer) >= limit or len(answer) == expected:
            return answer
        expected = count()
        if len(answer) >= min(limit, expected):
            return answer
    raise reader.incomplete(len(answer), min(limit, expected))
