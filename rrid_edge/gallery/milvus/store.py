"""The gallery in Milvus.

Writers need no lock. Rows are upserted and deleted by key, so every step may be repeated. Two indexers of different
folders must not share a collection: each would remove the other's rows. Each read is one ``Strong`` snapshot. Reads in
pages (``rows``, ``vectors``, ``verify``) may see other writers between two pages. Design:
``docs/decisions/milvus-gallery.md``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.milvus.client import Connection, MilvusAddress
from rrid_edge.gallery.milvus.collection import (
    compact_segments,
    create_collection,
    ensure_index,
    ensure_loaded,
    read_facts,
    refuse_other_options,
    refuse_unknown_index_type,
)
from rrid_edge.gallery.milvus.rows import MOST_ROWS_PER_ANSWER, Reader, is_intact, vector_of
from rrid_edge.gallery.milvus.schema import (
    CollectionFacts,
    expression,
    key_of,
    record,
)
from rrid_edge.gallery.milvus.search import Searcher
from rrid_edge.gallery.milvus.writing import Writer
from rrid_edge.gallery.shared import refuse_foreign, refuse_unfitting, refuse_unknown_dtype
from rrid_edge.model.spec import ModelSpec

_MOST_DAMAGED_KEYS = 500


class MilvusGallery(Closable):
    """A gallery in a Milvus collection; implements :class:`rrid_edge.gallery.base.Gallery`.

    Args:
        address: of the collection.
        spec: the model that will be used. A gallery of another fingerprint is refused; None accepts any.

    Attributes:
        address: as given.
        spec: of the model that made the descriptors.

    Raises:
        MissingDependencyError: ``pymilvus`` is not installed.
        GalleryMissingError: the collection does not exist.
        GalleryUnavailableError: the server is down or slow.
        GalleryError: the collection is not a gallery, has a newer format, or the server refuses the token.
        FingerprintMismatchError: the gallery was indexed with another model.
    """

    erasure = (
        "their descriptors deleted; Milvus removes its old files later, by garbage collection (see docs/milvus.md)"
    )

    def __init__(self, address: MilvusAddress, *, spec: ModelSpec | None = None) -> None:
        self.address = address
        self._connection = Connection(address)
        try:
            self._facts = read_facts(self._connection, spec)
            self.spec = self._facts.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
            ensure_loaded(self._connection, self._facts)
        except BaseException:
            self._connection.close()
            raise
        dimension = self.spec.dimension
        self._reader = Reader(self._connection, dimension, lambda: self._refreshed_facts().rows)
        self._searcher = Searcher(self._connection, self._reader, self._facts.index_type, dimension)
        self._writer = Writer(self._connection, self._reader, dimension)

    @classmethod
    def create(
        cls,
        address: MilvusAddress,
        spec: ModelSpec,
        *,
        dtype: str = "float16",
        index_type: str | None = None,
        replicas: int | None = None,
    ) -> MilvusGallery:
        """Create an empty gallery, or open the existing one.

        Args:
            address: of the collection.
            spec: of the model.
            dtype: ``float16`` rounds values as the local store does, so that both give the same answers.
            index_type: key of :data:`rrid_edge.gallery.milvus.schema.INDEX_TYPES`. None means ``flat`` for a new
                collection, and any type for an existing one.
            replicas: replicas in the memory of query nodes. None means 1 for a new collection, any number for an
                existing one.

        Raises:
            UsageError: the dtype or index type is unknown, or an existing collection has another index type or number
                of replicas.
        """
        refuse_unknown_dtype(dtype)
        refuse_unknown_index_type(index_type)
        connection = Connection(address)
        try:
            if not connection.call("has_collection"):
                create_collection(connection, CollectionFacts(spec, dtype, index_type or "flat", replicas or 1))
            facts = read_facts(connection, spec)
            refuse_other_options(str(address), facts, index_type, replicas)
            # A killed process may have left a collection without an index. Such a collection has no rows.
            ensure_index(connection, facts)
        finally:
            connection.close()
        return cls(address, spec=spec)

    @property
    def where(self) -> str:
        """The address, as messages name it."""
        return str(self.address)

    def _refreshed_facts(self) -> CollectionFacts:
        """The facts of the collection, read from the server."""
        self._facts = read_facts(self._connection)
        return self._facts

    def info(self) -> GalleryInfo:
        """The gallery's facts. Counts the rows on the server.

        Raises:
            GalleryError: rows are missing because a query node did not answer.
        """
        rows = self._reader.count()
        if rows < self._facts.rows:  # either removed meanwhile, or a query node is missing
            rows = self._reader.count_all()
        facts = self._facts
        return GalleryInfo(self.spec, facts.model, rows, rows, facts.dtype, 0, facts.index_type)

    def rows(self) -> list[GalleryRow]:
        """All rows, ordered by the bytes of their paths.

        Raises:
            GalleryError: a row does not match its checksum, or rows are missing.
        """
        rows = [self._reader.row(entity) for page in self._reader.entities(vectors=False) for entity in page]
        return sorted(rows, key=_path_bytes)

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The rows of some paths, in no order; unknown paths are left out.

        Raises:
            GalleryError: a row does not match its checksum.
        """
        entities = self._reader.by_keys([key_of(path) for path in paths], vectors=False)
        return [self._reader.row(entity) for entity in entities.values()]

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every crop's file, by path. Reads every row."""
        return {row.path: (row.size, row.mtime_ns) for row in self.rows()}

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors, float32 (N, D). A path that exists is replaced. Safe to repeat.

        Raises:
            UsageError: the shape is wrong, a path occurs twice, or Milvus cannot hold a row.
            GalleryError: the server refused a batch; earlier batches are kept.
        """
        refuse_unfitting(vectors.shape, len(rows), self.spec.dimension)
        if len({row.path for row in rows}) < len(rows):
            raise UsageError(f"{len(rows)} rows contain a path twice; expected each path once: remove the duplicate")
        stored = np.asarray(vectors, np.dtype(self._facts.dtype)).astype(np.float32)
        self._writer.upsert([record(row, vector) for row, vector in zip(rows, stored, strict=True)])

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and modification times. Milvus has no partial update, so this also rewrites the vectors."""
        size = self._reader.vectors_per_message
        for start in range(0, len(rows), size):
            rows_by_key = {key_of(row.path): row for row in rows[start : start + size]}
            entities = self._reader.by_keys(rows_by_key, vectors=True)
            intact = {key: entity for key, entity in entities.items() if is_intact(entity)}
            self._writer.upsert([record(rows_by_key[key], vector_of(entity)) for key, entity in intact.items()])

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Remove crops; returns how many existed.

        With ``overwrite`` the server also compacts. Then no search, replica or new file holds the vectors. Old files
        stay until the server's garbage collector removes them.
        """
        keys = sorted(self._reader.by_keys([key_of(path) for path in paths], vectors=False))
        if keys:
            self._writer.delete(keys)
            if overwrite:
                self.compact()
        return len(keys)

    def set_model(self, model: Path) -> None:
        """Record the model file, for later queries."""
        if self._facts.model != str(model):
            self._writer.set_fact("model", str(model))
            self._refreshed_facts()

    def damaged(self) -> list[GalleryRow]:
        """Rows that the last verification found damaged and that still are. Other vectors are not read."""
        entities = self._reader.by_keys(self._refreshed_facts().damaged, vectors=True)
        return [self._reader.row(entity) for entity in entities.values() if not is_intact(entity)]

    def finish(self) -> None:
        """Wait until the index covers all rows, and clear the record of repaired damage."""
        if self._facts.index_type != "flat":
            self._writer.await_index()
        self._writer.set_fact("rows", str(self._reader.count_all()))
        known = self._refreshed_facts().damaged
        remaining = [key for key in known if key not in self._writer.stored_keys]
        if len(remaining) < len(known):
            self._writer.set_fact("damaged", json.dumps(remaining))

    def compact(self) -> int:
        """Let Milvus rewrite its segments without removed rows. Returns 0: Milvus does not report how many it freed."""
        compact_segments(self._connection)
        return 0

    def search(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        search_filter: SearchFilter | None = None,
        *,
        fast: bool = False,
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for each query. Rows with damaged vectors are left out.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits per query, at most 16,384.
            search_filter: which rows may answer; Milvus applies it.
            fast: accept the candidates of an approximate index, which may miss a row.

        Raises:
            UsageError: the shape or ``top_k`` is wrong.
            GalleryError: rows are missing because a query node did not answer.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        dimension = self.spec.dimension
        if queries.ndim != 2 or queries.shape[1] != dimension or not 1 <= top_k <= MOST_ROWS_PER_ANSWER:
            raise UsageError(
                f"queries of shape {queries.shape}, top {top_k}: expected (Q, {dimension}) and 1 to "
                f"{MOST_ROWS_PER_ANSWER:,} hits in Milvus",
                parameter="top_k",
            )
        if fast and self._facts.index_type != "flat":
            self._writer.await_index()
        filter_expression = expression(search_filter or SearchFilter())
        answers, passing = self._searcher.search(queries, top_k, filter_expression, fast=fast)
        hits, modes, scored = ([getattr(answer, name) for answer in answers] for name in ("hits", "mode", "scored"))
        return SearchResult(tuple(hits), tuple(modes), passing, tuple(scored))

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D).

        Raises:
            GalleryError: a row no longer exists, or its vector does not match its checksum.
        """
        return self._reader.vectors(rows)

    def verify(self) -> Verification:
        """Check every vector against its checksum. Damaged rows are recorded, so that the next ``index`` repairs them.

        Raises:
            GalleryError: a row does not match its checksum, or rows are missing.
        """
        count, damaged = 0, []
        for page in self._reader.entities(vectors=True):
            count += len(page)
            damaged += [self._reader.row(entity) for entity in page if not is_intact(entity)]
        keys = tuple(key_of(row.path) for row in damaged[:_MOST_DAMAGED_KEYS])
        if set(keys) != set(self._refreshed_facts().damaged):
            self._writer.set_fact("damaged", json.dumps(keys))
        return Verification(count, tuple(sorted(damaged, key=_path_bytes)))

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()


def _path_bytes(row: GalleryRow) -> bytes:
    return os.fsencode(row.path)
