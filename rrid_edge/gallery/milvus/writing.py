"""Writing rows and facts to Milvus. Every step may be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.collection import await_index
from rrid_edge.gallery.milvus.rows import Reader
from rrid_edge.gallery.milvus.schema import KEY, key_expressions, property_name

BATCH_BYTES = 16 << 20
"""Bytes per upsert; the server's limit is 64 MB."""


class Writer:
    """Writes to one collection.

    Args:
        connection: to the collection.
        reader: of the collection.
        dimension: values per vector.

    Attributes:
        stored_keys: keys of all rows stored by this object.
    """

    def __init__(self, connection: Connection, reader: Reader, dimension: int) -> None:
        self._connection, self._reader = connection, reader
        self._row_bytes = 4 * dimension + 1024
        self.stored_keys: set[str] = set()
        self._is_indexed = False

    def upsert(self, records: Sequence[dict[str, Any]]) -> None:
        """Store entities, as :func:`rrid_edge.gallery.milvus.schema.record` makes them, in batches.

        Raises:
            GalleryError: the server refused a batch; earlier batches are kept.
        """
        size = max(1, BATCH_BYTES // self._row_bytes)
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            self._connection.call("upsert", list(batch))
            self.stored_keys.update(entity[KEY] for entity in batch)
        self._is_indexed = False

    def await_index(self) -> None:
        """Wait until the index covers all rows; returns at once if nothing was stored since the last call.

        Raises:
            GalleryError: the server failed to build the index, or is down or slow.
        """
        if not self._is_indexed:
            await_index(self._connection)
            self._is_indexed = True

    def delete(self, keys: Sequence[str]) -> None:
        """Delete rows by key, and lower the recorded number of rows.

        Raises:
            GalleryError: the server refused the call.
        """
        # The lower bound is lowered first: a reader takes fewer rows than the bound for an incomplete answer.
        self.set_fact("rows", str(max(0, self._reader.count() - len(keys))))
        for expression in key_expressions(keys):
            self._connection.call("delete", filter=expression)
        self.set_fact("rows", str(self._reader.count()))

    def set_fact(self, name: str, value: str) -> None:
        """Change one fact of the collection."""
        self._connection.call("alter_collection_properties", {property_name(name): value})
