"""Writing and deleting entities in Milvus. Every step may be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.milvus.bound import LowerBound
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.rows import Reader
from rrid_edge.gallery.milvus.schema import THUMBNAIL, batches, content_id, file_key, key_expressions, random_id

BATCH_BYTES = 16 << 20
"""Bytes per upsert; the server's limit is 64 MB."""
_KEYS_PER_REMOVAL = 20_000
"""Keys deleted under one mark: much faster than marks expire."""


class Writer:
    """Writes to one collection.

    Args:
        connection: to the collection.
        reader: of the collection.
        bound: of the collection's number of rows.
        row_bytes: size of an entity without thumbnail.
    """

    def __init__(self, connection: Connection, reader: Reader, bound: LowerBound, row_bytes: int) -> None:
        self._connection, self._reader, self._bound = connection, reader, bound
        self._row_bytes = row_bytes

    def upsert(self, records: Sequence[dict[str, Any]]) -> None:
        """Store entities in batches.

        Raises:
            GalleryError: the server refused a batch; earlier batches are kept.
        """
        for batch in self._batches(records):
            self._connection.call("upsert", batch)

    def _batches(self, records: Sequence[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
        batch: list[dict[str, Any]] = []
        size = 0
        for entity in records:
            entity_bytes = self._row_bytes + len(entity.get(THUMBNAIL, ""))
            if batch and size + entity_bytes > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(entity)
            size += entity_bytes
        if batch:
            yield batch

    def delete(self, keys: Sequence[str], condition: str = "") -> None:
        """Delete entities by key, and record the new number of rows.

        Args:
            keys: of the entities.
            condition: only entities that match this expression too; empty for all.

        Raises:
            GalleryError: the server refused the call.
        """
        if not keys:
            return
        least = max(self._reader.count(), self._reader.least_rows()) - len(keys)
        for part in batches(keys, _KEYS_PER_REMOVAL):
            with self._bound.removing():
                for expression in key_expressions(part):
                    self._connection.call("delete", filter=f"({expression}){condition and f' and ({condition})'}")
        self._bound.measure(self._reader.count, least)

    def measure(self) -> None:
        """Record the number of rows as a lower bound, where it is not recorded.

        Raises:
            GalleryError: rows are missing because a query node did not answer.
        """
        total = self._reader.count_all()
        if self._reader.least_rows() != total:
            self._bound.measure(self._reader.count, total)


def numbered(row: NewRow, before: Mapping[str, GalleryRow]) -> GalleryRow:
    """A row with its id. The same content keeps the id and label of the row that it replaces."""
    if row.path is None:
        return GalleryRow(**{**vars(row), "id": random_id()})
    key = file_key(row.source, row.path)
    old = before.get(key)
    if old is None or not row.sha256 or old.sha256 != row.sha256:
        return GalleryRow(**{**vars(row), "id": content_id(key, row.sha256) if row.sha256 else random_id()})
    return GalleryRow(**{**vars(row), "id": old.id, "label": row.label or old.label})
