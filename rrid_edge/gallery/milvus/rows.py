"""Reading any number of rows from Milvus; incomplete answers are refused.

Milvus returns at most 16,384 rows per answer, in no stable order. Rows are therefore read in ranges of their keys. Keys
are hashes, so ranges of equal width hold about as many rows. A range is complete if it returns fewer rows than the
limit. Every read has consistency level ``Strong``: it sees all earlier writes and takes about 0.2 s on a server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import GalleryError
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.schema import (
    KEY,
    KEYS_PER_EXPRESSION,
    VECTOR,
    batches,
    checksum,
    key_expressions,
    key_list,
    number_expressions,
)

STRONG = "Strong"
ANY_STATE = "Eventually"
"""Consistency level of reads whose rows are compared with checksums of a ``Strong`` read: it waits for nothing."""
MOST_ROWS_PER_ANSWER = 16_384
"""Limit of Milvus."""
Entity = Mapping[str, Any]
_ROWS_PER_PAGE = 8000
_PAGE_BYTES = 16 << 20
"""Bytes of vectors per page; Milvus limits a message to 64 MB."""
_TRIES = 5
_PAUSE_S = 1.0
_BOUND_AGE_S = 15.0
"""Age of a lower bound that a search may use: shorter than a server takes to notice a dead query node."""


@dataclass(frozen=True)
class Fields:
    """Fields that a read asks for.

    Attributes:
        names: of the fields.
        bytes: largest usual size of one row, in bytes.
    """

    names: tuple[str, ...]
    bytes: int = 1024


class Reader:
    """Reads the entities of one collection.

    Args:
        connection: to the collection.
        scalars: all fields except vector and thumbnail.
        dimension: values per vector.
        least_rows: returns a lower bound of the number of rows, read at most so many seconds ago.

    Attributes:
        scalars: as given.
        with_vectors: these and the vector.
        where: the address, as messages name it.
    """

    def __init__(
        self, connection: Connection, scalars: tuple[str, ...], dimension: int, least_rows: Callable[[float], int]
    ) -> None:
        self._connection, self._least_rows = connection, least_rows
        self.scalars = Fields(scalars)
        self.with_vectors = Fields((*scalars, VECTOR), 4 * dimension)
        self.where = str(connection.address)

    def least_rows(self) -> int:
        """The lower bound of the number of rows, read from the server now."""
        return self._least_rows(0)

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
        return total >= self._least_rows(_BOUND_AGE_S) or total >= self.least_rows()

    def entities(self, fields: Fields, expression: str = "") -> Iterator[list[Entity]]:
        """All rows that match, in pages. Each page is one snapshot of the collection.

        Raises:
            GalleryError: pages hold fewer rows than were counted, several times: a query node did not answer.
        """
        total = self.count_all()
        expected = self.count(expression) if expression else total
        page_rows = _page_rows(fields)
        ranges = key_ranges(-(-expected // (page_rows // 2 or 1)) or 1)
        for start, stop in ranges:
            yield from self._complete_range(fields, (expression, start, stop), expected if len(ranges) == 1 else None)

    def _complete_range(
        self, fields: Fields, part: tuple[str, int, int], counted: int | None
    ) -> Sequence[list[Entity]]:
        """The rows of a range of keys, not fewer than were there before or after. Others may write meanwhile."""
        expression, start, stop = part
        matching = and_expression(expression, range_expression(start, stop)) if counted is None else expression
        for _ in range(_TRIES):
            before = self.count(matching) if counted is None else counted
            pages = list(self._range(fields, expression, start, stop))
            received = sum(map(len, pages))
            if received >= before:
                return pages
            after = self.count(matching)
            if received >= after:
                return pages
            counted = None
        raise self.incomplete(received, after)

    def _range(self, fields: Fields, expression: str, start: int, stop: int) -> Iterator[list[Entity]]:
        """Rows whose keys lie in a range; a range that reaches the limit is halved."""
        limit = min(2 * _page_rows(fields), MOST_ROWS_PER_ANSWER)
        page = self._query(and_expression(expression, range_expression(start, stop)), fields, limit)
        if len(page) < limit or stop - start < 2:
            yield page
            return
        middle = (start + stop) // 2
        for half in ((start, middle), (middle, stop)):
            yield from self._range(fields, expression, *half)

    def _query(self, expression: str, fields: Fields, limit: int, level: str = STRONG) -> list[Entity]:
        return list(
            self._connection.call(
                "query", filter=expression, output_fields=list(fields.names), limit=limit, consistency_level=level
            )
        )

    def by_keys(self, keys: Iterable[str], fields: Fields, level: str = STRONG) -> dict[str, Entity]:
        """Entities by key; missing keys are left out.

        Args:
            keys: of the entities.
            fields: of each entity.
            level: consistency level.
        """
        batch_keys = min(1000, _page_rows(fields))
        return {
            entity[KEY]: entity
            for expression in key_expressions((key for key in keys if key.isalnum()), batch_keys)
            for entity in self._query(expression, fields, batch_keys, level)
        }

    def by_checks(self, checks: Mapping[str, tuple[int, int]], fields: Fields) -> dict[str, Entity]:
        """Entities by key that have the given values of ``crc32`` and ``check32``; others are left out.

        The checksums cover row and vector. So an entity of any state is the wanted one if it has them, and only the
        others are read ``Strong``: that saves the 0.2 s of a second ``Strong`` read.
        """

        def fitting(keys: Iterable[str], level: str) -> dict[str, Entity]:
            found = self.by_keys(keys, fields, level)
            return {key: one for key, one in found.items() if (one["crc32"], one["check32"]) == checks[key]}

        entities = fitting(checks, ANY_STATE)
        if late := checks.keys() - entities.keys():
            entities |= fitting(late, STRONG)
        return entities

    def by_numbers(self, field: str, values: Iterable[int]) -> list[Entity]:
        """Entities by the value of an integer field, without vectors."""
        return self._matching(number_expressions(field, values))

    def by_contents(self, digests: Iterable[str]) -> list[Entity]:
        """Entities by the SHA-256 (hex) of their files, without vectors."""
        wanted = sorted({digest for digest in digests if digest.isalnum()})  # not of a damaged entry
        return self._matching(f"sha256 in {key_list(part)}" for part in batches(wanted, KEYS_PER_EXPRESSION))

    def _matching(self, expressions: Iterable[str]) -> list[Entity]:
        found: list[Entity] = []
        for expression in expressions:
            page = self._query(expression, self.scalars, MOST_ROWS_PER_ANSWER)
            if len(page) == MOST_ROWS_PER_ANSWER:  # a path or content of very many sources
                page = [entity for part in self.entities(self.scalars, expression) for entity in part]
            found += page
        return found

    def incomplete(self, received: int, expected: int) -> GalleryError:
        """The error for an incomplete answer."""
        return GalleryError(
            f"{self.where}: Milvus returned only {received:,} of {expected:,} crops, so there is no answer; check its "
            "query nodes and try again (with two replicas, answers stay complete while a node is replaced)"
        )


def _page_rows(fields: Fields) -> int:
    """Rows of these fields that fit one message."""
    return max(1, min(_ROWS_PER_PAGE, _PAGE_BYTES // fields.bytes))


def key_ranges(count: int) -> list[tuple[int, int]]:
    """``count`` key ranges of equal width: [start, stop), as the integer value of a key's first eight hex digits."""
    return [((index << 32) // count, (index + 1 << 32) // count) for index in range(count)]


def range_expression(start: int, stop: int) -> str:
    """An expression that matches the rows whose keys lie in a range of :func:`key_ranges`."""
    upper = "" if stop >= 1 << 32 else f' and {KEY} < "{stop:08x}"'
    return f'{KEY} >= "{start:08x}"{upper}'


def and_expression(first: str, second: str) -> str:
    """The conjunction of two expressions; an empty expression matches all rows."""
    return f"({first}) and ({second})" if first and second else first or second


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
