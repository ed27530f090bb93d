"""The gallery in Milvus, for galleries that one machine cannot hold or answer; see ``docs/milvus.md``.

*Writers.* There is no lock. Rows are only ever upserted by the hash of their path and deleted by it, so any step may be
repeated, and two indexers of one folder end with the same rows; two indexers of different folders in one collection would
remove each other's rows. A batch above :data:`BATCH_BYTES` is several messages: a kill between them leaves whole rows, never
half ones, and the next index goes on.

*Readers.* Every read is ``Strong``: it sees all that was written before it was asked. One search is one moment; what is read in
pages (:meth:`MilvusGallery.rows`, ``vectors``, ``verify``) may see other writers between two pages.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import GalleryError, UsageError
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.milvus.client import Connection, MilvusAddress
from rrid_edge.gallery.milvus.collection import (
    await_index,
    compact_segments,
    create_collection,
    described,
    ensure_index,
    ensure_loaded,
)
from rrid_edge.gallery.milvus.rows import MOST_AT_ONCE, Reader, is_sound, vector_of
from rrid_edge.gallery.milvus.schema import (
    INDEX_TYPES,
    KEY,
    Facts,
    expression,
    key_expressions,
    key_of,
    property_name,
    record,
)
from rrid_edge.gallery.milvus.search import Answer, Searcher
from rrid_edge.gallery.shared import DTYPES, refuse_foreign
from rrid_edge.model.spec import ModelSpec

BATCH_BYTES = 16 << 20
"""Of one upsert; the server's limit is 64 MB."""
_DAMAGED_KEPT = 500


class MilvusGallery(Closable):
    """A gallery in a Milvus collection; see :class:`rrid_edge.gallery.base.Gallery`.

    Args:
        address: of the collection.
        spec: the model that will be used; another fingerprint is refused. None takes what is there.

    Attributes:
        spec: of the model that made the descriptors.

    Raises:
        MissingDependencyError: ``pymilvus`` is not installed.
        GalleryMissingError: no such collection.
        GalleryError: not one of ours, of a newer format; the server is down, slow, refuses the token.
        FingerprintMismatchError: it was indexed with another model.
    """

    forgetting = "their descriptors deleted; Milvus' old files go with its garbage collector (see docs/milvus.md)"

    def __init__(self, address: MilvusAddress, *, spec: ModelSpec | None = None) -> None:
        self.address = address
        self._connection = Connection(address)
        try:
            self._facts = described(self._connection, spec)
            self.spec = self._facts.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
            ensure_loaded(self._connection, self._facts)
        except BaseException:
            self._connection.close()
            raise
        dimension = self.spec.dimension
        self._reader = Reader(self._connection, dimension, lambda: self._read_facts().rows)
        self._searcher = Searcher(self._connection, self._reader, self._facts.index_type, dimension)
        self._index_is_ready = False
        self._stored_again: set[str] = set()

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
        """Make an empty gallery, or open the one that is there.

        Args:
            address: of the collection.
            spec: of the model.
            dtype: ``float16`` rounds values as the local store does, so that both give the same answers.
            index_type: key of :data:`rrid_edge.gallery.milvus.schema.INDEX_TYPES`; None is ``flat``, or whatever is there.
            replicas: copies in the memory of query nodes; None is 1, or whatever is there.

        Raises:
            UsageError: an unknown dtype or kind of index, or another kind or number of copies than the collection has.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown: expected one of {', '.join(DTYPES)}", parameter="dtype")
        if index_type is not None and index_type not in INDEX_TYPES:
            raise UsageError(
                f"index type {index_type!r} is unknown: expected one of {', '.join(INDEX_TYPES)}",
                parameter="index_type",
            )
        connection = Connection(address)
        try:
            if not connection.call("has_collection"):
                create_collection(connection, Facts(spec, dtype, index_type or "flat", replicas or 1))
            # A kill may have left it without: no row is ever written before its index is there.
            ensure_index(connection, described(connection, spec))
        finally:
            connection.close()
        gallery = cls(address, spec=spec)
        there = gallery._facts
        if (index_type or there.index_type, replicas or there.replicas) != (there.index_type, there.replicas):
            gallery.close()
            raise UsageError(
                f"{address}: this collection has an index of kind {there.index_type} and {there.replicas} replicas, which are "
                "chosen when it is made: leave both out, or copy into a new collection with: rrid-edge gallery copy",
                parameter=("index_type", "replicas"),
            )
        return gallery

    @property
    def where(self) -> str:
        """The address, as messages name it."""
        return str(self.address)

    def _read_facts(self) -> Facts:
        """What the collection says of itself now."""
        self._facts = described(self._connection)
        return self._facts

    def info(self) -> GalleryInfo:
        """What the store says of itself; counts the rows, and refuses fewer than were known of when last asked.

        Raises:
            GalleryError: Milvus answers in part.
        """
        rows = self._reader.count()
        if rows < self._facts.rows:  # removed meanwhile, or out of reach
            rows = self._reader.count_all()
        facts = self._facts
        return GalleryInfo(self.spec, facts.model, rows, rows, facts.dtype, 0, facts.index_type)

    def rows(self) -> list[GalleryRow]:
        """All rows, in the order of their paths' bytes.

        Raises:
            GalleryError: a row does not fit its own checksum, or Milvus answers in part.
        """
        found = [self._reader.row(entity) for page in self._reader.entities(vectors=False) for entity in page]
        return sorted(found, key=_path_bytes)

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The rows of some paths, in no order; paths that are not there are left out.

        Raises:
            GalleryError: a row does not fit its own checksum, or Milvus answers in part.
        """
        found = self._reader.by_keys([key_of(path) for path in paths], vectors=False)
        return [self._reader.row(entity) for entity in found.values()]

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every crop's file by its path; reads every row."""
        return {row.path: (row.size, row.mtime_ns) for row in self.rows()}

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors (N, D); see the contract. Safe to repeat.

        Raises:
            UsageError: another shape, a path that comes twice, a row that Milvus cannot hold.
            GalleryError: the server refused; what it took is kept.
        """
        if vectors.shape != (len(rows), self.spec.dimension):
            raise UsageError(
                f"descriptors of shape {vectors.shape} do not fit {len(rows)} rows of {self.spec.dimension} values"
            )
        if len({row.path for row in rows}) < len(rows):
            raise UsageError(f"{len(rows)} rows name a path twice: one batch holds a crop once")
        stored = np.asarray(vectors, np.dtype(self._facts.dtype)).astype(np.float32)
        self._upsert([record(row, vector) for row, vector in zip(rows, stored, strict=True)])

    def _upsert(self, records: list[dict[str, Any]]) -> None:
        size = max(1, BATCH_BYTES // (4 * self.spec.dimension + 1024))
        for start in range(0, len(records), size):
            part = records[start : start + size]
            self._connection.call("upsert", part)
            self._stored_again.update(row[KEY] for row in part)
        self._index_is_ready = False

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and times of crops whose content is the same; Milvus takes whole rows only."""
        size = self._reader.vectors_at_once
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            found = self._reader.by_keys([key_of(row.path) for row in part], vectors=True)
            there = [(row, found[key]) for row in part if (key := key_of(row.path)) in found]
            self._upsert([record(row, vector_of(entity)) for row, entity in there if is_sound(entity)])

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Take crops out; with ``overwrite`` the segments that held them are written anew at once.

        Milvus deletes by writing down what is deleted. ``overwrite`` makes it compact, after which no search, no replica and
        no new file holds the vectors; the old files stay until the server's garbage collector removes them.
        """
        keys = sorted(self._reader.by_keys([key_of(path) for path in paths], vectors=False))
        if keys:  # said before and after: readers take fewer rows than are said for an answer that is not whole
            self._set_fact("rows", str(max(0, self._reader.count() - len(keys))))
            for wanted in key_expressions(keys):
                self._connection.call("delete", filter=wanted)
            self._set_fact("rows", str(self._reader.count()))
        if overwrite and keys:
            self.compact()
        return len(keys)

    def set_model(self, model: Path) -> None:
        """Remember which model file was used, for queries to come."""
        if self._facts.model != str(model):
            self._set_fact("model", str(model))
            self._read_facts()

    def _set_fact(self, name: str, value: str) -> None:
        self._connection.call("alter_collection_properties", {property_name(name): value})

    def damaged(self) -> list[GalleryRow]:
        """Rows that the last verification found damaged: reading all vectors for every index would be too much."""
        found = self._reader.by_keys(self._read_facts().damaged, vectors=True)
        return [self._reader.row(entity) for entity in found.values() if not is_sound(entity)]

    def finish(self) -> None:
        """Build the index over what was written, and forget about damage that was mended."""
        if self._facts.index_type != "flat":
            self._await_index()
        self._set_fact("rows", str(self._reader.count_all()))
        known = self._read_facts().damaged
        left = [key for key in known if key not in self._stored_again]
        if len(left) < len(known):
            self._set_fact("damaged", json.dumps(left))

    def _await_index(self) -> None:
        """Let the index hold all that was written, once."""
        if not self._index_is_ready:
            await_index(self._connection)
            self._index_is_ready = True

    def compact(self) -> int:
        """Let Milvus write segments anew without the rows that are gone; waits for it. How many is not told: 0."""
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
        """The ``top_k`` rows of highest cosine for every query (Q, D); see the contract and ``milvus_search``.

        Rows whose vector does not fit its checksum are left out.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits, at most 16,384.
            search_filter: which rows may answer; Milvus applies it.
            fast: take an approximate index's word for which rows are candidates: a row may be missed.

        Raises:
            UsageError: another shape, or more hits than Milvus answers.
            GalleryError: fewer rows came than there are.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        dimension = self.spec.dimension
        if queries.ndim != 2 or queries.shape[1] != dimension or not 1 <= top_k <= MOST_AT_ONCE:
            raise UsageError(
                f"queries of shape {queries.shape}, top {top_k}: expected (Q, {dimension}) and 1 to {MOST_AT_ONCE:,} hits "
                "in Milvus"
            )
        if fast and self._facts.index_type != "flat":
            self._await_index()
        wanted = expression(search_filter or SearchFilter())
        answers, count = self._whole_answers(queries, top_k, wanted, fast=fast)
        hits, modes, scored = ([getattr(answer, name) for answer in answers] for name in ("hits", "mode", "scored"))
        return SearchResult(tuple(hits), tuple(modes), count, tuple(scored))

    def _whole_answers(
        self, queries: NDArray[np.float32], top_k: int, wanted: str, *, fast: bool
    ) -> tuple[list[Answer], int]:
        """Answers, and how many rows passed the filter; asked again while rows are missing, up to the time limit."""
        deadline = time.monotonic() + self._connection.timeout_s
        while True:
            with ThreadPoolExecutor(2) as pool:  # all wait some 0.2 s for consistency: at the same time
                total = pool.submit(self._reader.count)
                passing = pool.submit(self._reader.count, wanted) if wanted else total
                answers = (
                    self._searcher.search(queries, top_k, wanted, passing.result, fast=fast) if len(queries) else []
                )
            if self._reader.is_whole(total.result()):
                return answers, passing.result()
            if time.monotonic() > deadline:
                raise self._reader.partial(total.result(), self._facts.rows)
            time.sleep(1.0)

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D).

        Raises:
            GalleryError: a row is gone, or its vector does not fit its checksum.
        """
        result = np.empty((len(rows), self.spec.dimension), np.float32)
        size = self._reader.vectors_at_once
        for start in range(0, len(rows), size):
            keys = [key_of(row.path) for row in rows[start : start + size]]
            found = self._reader.by_keys(keys, vectors=True)
            bad = [key for key in keys if key not in found or not is_sound(found[key])]
            if bad:
                raise GalleryError(
                    f"{self.address}: {len(bad)} of the crops asked for are gone or damaged; see: rrid-edge gallery verify"
                )
            for index, key in enumerate(keys, start):
                result[index] = vector_of(found[key])
        return result

    def verify(self) -> Verification:
        """Read every vector and check it; what is damaged is remembered for the next index.

        Raises:
            GalleryError: a row's facts are damaged, or Milvus answers in part.
        """
        rows, damaged = 0, []
        for page in self._reader.entities(vectors=True):
            rows += len(page)
            damaged += [row for entity in page if not is_sound(entity) and (row := self._reader.row(entity))]
        keys = tuple(key_of(row.path) for row in damaged[:_DAMAGED_KEPT])
        if set(keys) != set(self._read_facts().damaged):
            self._set_fact("damaged", json.dumps(keys))
        return Verification(rows, tuple(sorted(damaged, key=_path_bytes)))

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()


def _path_bytes(row: GalleryRow) -> bytes:
    return os.fsencode(row.path)
