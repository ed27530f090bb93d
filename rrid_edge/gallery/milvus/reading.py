"""The reading half of a gallery in Milvus. Each read is one ``Strong`` snapshot, reads in pages are one per page."""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import GalleryChangedError, GalleryError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.collection import await_index, ensure_loaded, read_facts, schema_of
from rrid_edge.gallery.milvus.facts import CollectionFacts, Damage, damage_property
from rrid_edge.gallery.milvus.moment import MilvusMoment
from rrid_edge.gallery.milvus.notes import Notes
from rrid_edge.gallery.milvus.rows import Entity, Fields, Reader, is_intact, vector_of
from rrid_edge.gallery.milvus.schema import KEY, THUMBNAIL, THUMBNAIL_CHARACTERS, thumbnail_of
from rrid_edge.gallery.milvus.search import Answer, Searcher, accepted_queries, search_result
from rrid_edge.gallery.shared import refuse_foreign, row_order
from rrid_edge.model.spec import ModelSpec

_JUST_OPENED_S = 15.0
_THUMBNAIL_FIELDS = Fields((KEY, "row_id", THUMBNAIL), THUMBNAIL_CHARACTERS)


class MilvusReads(Closable):
    """Reads a gallery in a Milvus collection; see :class:`rrid_edge.gallery.milvus.store.MilvusGallery`."""

    def __init__(self, address: MilvusAddress, *, spec: ModelSpec | None = None) -> None:
        self.address = address
        self._connection = Connection(address)
        try:
            self._facts = read_facts(self._connection, spec)
            self._facts_s = time.monotonic()
            self._is_new = True
            self._is_indexed = False
            self.spec = self._facts.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
            ensure_loaded(self._connection, self._facts)
        except BaseException:
            self._connection.close()
            raise
        self._schema = schema_of(self._facts)
        self._reader = Reader(self._connection, self._schema.fields, self.spec.dimension, self._least_rows)
        self._searcher = Searcher(self._connection, self._reader, self._schema, self._facts.index_type)
        self._notes = Notes(self._connection, self._facts.replicas)

    @property
    def where(self) -> str:
        """The address, as messages name it."""
        return str(self.address)

    def _refreshed_facts(self) -> CollectionFacts:
        """The facts of the collection, read from the server."""
        now_s = time.monotonic()
        facts = read_facts(self._connection)
        refuse_foreign(self.where, facts.spec, self.spec)  # another process may have rebuilt the gallery
        self._facts, self._is_new = facts, False
        self._facts_s = now_s
        return self._facts

    def _alter(self, properties: dict[str, str]) -> None:
        """Change properties of the collection; facts are read again afterwards."""
        self._connection.call("alter_collection_properties", properties)
        self._facts_s = -math.inf

    def _least_rows(self, age_s: float) -> int:
        """The lower bound of the number of rows, read at most ``age_s`` seconds ago."""
        is_recent = time.monotonic() - self._facts_s < age_s
        return (self._facts if is_recent else self._refreshed_facts()).bound.rows

    @contextlib.contextmanager
    def moment(self) -> Iterator[MilvusMoment]:
        """This gallery, with the vectors of its answers: :meth:`vectors` refuses rows that changed since."""
        self._connection.refuse_closed()
        yield MilvusMoment(self)

    def info(self) -> GalleryInfo:
        """The gallery's facts. Counts the rows on the server.

        Raises:
            GalleryError: rows are missing because a query node did not answer.
        """
        rows = self._reader.count()
        # Just after opening, the facts need not be read again: that saves a match one call.
        is_fresh = self._is_new and time.monotonic() - self._facts_s < _JUST_OPENED_S
        facts = self._facts if is_fresh else self._refreshed_facts()
        if rows < facts.bound.rows:  # either removed meanwhile, or a query node is missing
            rows = self._reader.count_all()
            facts = self._facts
        retention = facts.fact("retention_s")
        return GalleryInfo(
            self.spec,
            facts.fact("model"),
            rows,
            rows,
            facts.dtype,
            0,
            index_type=facts.index_type,
            pattern=facts.fact("pattern"),
            time_from=facts.fact("time_from"),
            retention_s=int(retention) if retention else None,
            format=facts.format,
        )

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        """All rows, or those of some sources, ordered by the bytes of their paths, then by id.

        Raises:
            GalleryError: rows are missing.
        """
        return sorted(self._some_rows(None if sources is None else frozenset(sources)), key=row_order)

    def _some_rows(self, sources: frozenset[str] | None) -> Iterator[GalleryRow]:
        self._connection.refuse_closed()
        if sources is not None and not sources:
            return
        expression = self._schema.expression(SearchFilter(sources=sources or frozenset()))
        for page in self._reader.entities(self._reader.scalars, expression):
            yield from self._intact_rows(page)

    def _intact_rows(self, entities: Iterable[Entity]) -> Iterator[GalleryRow]:
        """Rows of the entities that match their checksums."""
        return (row for row in map(self._schema.row_of, entities) if row is not None)

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        """The rows of some paths of a source, in no order; unknown paths are left out."""
        self._connection.refuse_closed()
        return list(self._intact_rows(self._file_entities([(source, path) for path in paths]).values()))

    def _file_entities(self, files: Iterable[tuple[str, str]], fields: Fields | None = None) -> dict[str, Entity]:
        """Entities of files by key."""
        keys = [self._schema.file_key(source, path) for source, path in files]
        return self._reader.by_keys(keys, fields or self._reader.scalars)

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        """The rows of some ids, in no order; unknown ids are left out. Reads all rows of a gallery of format 1."""
        self._connection.refuse_closed()
        wanted = {int(number) for number in ids}
        if self._facts.format == 1:
            return [row for row in self._some_rows(None) if row.id in wanted] if wanted else []
        return list(self._intact_rows(self._reader.by_numbers("row_id", wanted)))

    def file_stats(self, source: str) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every crop's file of a source, by path. Reads its rows."""
        rows = self._some_rows(frozenset({source}))
        return {row.path: (row.size, row.mtime_ns) for row in rows if row.path is not None}

    def sources(self) -> dict[str, int]:
        """Number of rows by source. Reads every row."""
        return dict(Counter(row.source for row in self._some_rows(None)))

    def cameras(self) -> dict[str | None, int]:
        """Number of rows by camera. Reads every row."""
        return dict(Counter(row.camera for row in self._some_rows(None)))

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for each query. Damaged rows are left out.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits per query, at most 16,384.
            search_filter: which rows may answer; Milvus applies it.

        Raises:
            UsageError: the shape or ``top_k`` is wrong.
            GalleryError: rows are missing because a query node did not answer.
        """
        return search_result(*self.answers(queries, top_k, search_filter, fast=False))

    def search_approximately(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """Like :meth:`search`, from the candidates of the server's index, which may miss rows (``flat`` never does)."""
        return search_result(*self.answers(queries, top_k, search_filter, fast=True))

    def answers(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None, *, fast: bool
    ) -> tuple[list[Answer], int]:
        """The answers of a search with the vectors of their hits, and how many rows pass the filter."""
        self._connection.refuse_closed()
        queries = accepted_queries(queries, top_k, self.spec.dimension)
        if fast and self._facts.index_type != "flat":
            self._await_index()
        return self._searcher.search(
            queries, top_k, self._schema.expression(search_filter or SearchFilter()), fast=fast
        )

    def _await_index(self) -> None:
        """Wait until the index covers all rows; returns at once if this object stored nothing since the last wait."""
        if not self._is_indexed:
            self._is_indexed = True  # before the wait: rows that another thread stores meanwhile need another
            try:
                await_index(self._connection)
            except BaseException:
                self._is_indexed = False
                raise

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D), each checked against its row's checksum.

        Raises:
            GalleryChangedError: a row was removed or its content changed since it was read.
            GalleryError: a vector is damaged.
        """
        self._connection.refuse_closed()
        keys = [self._schema.key_of(row) for row in rows]
        entities = self._reader.by_keys(keys, self._reader.with_vectors)
        result = np.empty((len(rows), self.spec.dimension), np.float32)
        for index, (key, row) in enumerate(zip(keys, rows, strict=True)):
            entity = entities.get(key)
            if entity is None or int(entity["crc32"]) != row.crc32:
                raise GalleryChangedError(
                    f"{self.where}: {printable(row.name)} was removed or changed while it was read: expected the row "
                    "as it was; try again"
                )
            if not is_intact(entity):
                raise GalleryError(
                    f"{self.where}: the descriptor of {printable(row.name)} is damaged; see: rrid-edge gallery verify"
                )
            result[index] = vector_of(entity)
        return result

    def thumbnails(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Thumbnails (JPEG) by id; rows without one are left out."""
        rows = self.rows_by_id(ids)
        if self._facts.format == 1 or not rows:
            return {}
        entities = self._reader.by_keys(map(self._schema.key_of, rows), _THUMBNAIL_FIELDS)
        pictures = {int(entity["row_id"]): thumbnail_of(entity) for entity in entities.values()}
        return {row.id: pictures[row.id] for row in rows if pictures.get(row.id)}

    def damaged(self) -> list[GalleryRow]:
        """Rows whose vector the last verification found damaged and still is. Usually, other vectors are not read."""
        broken = self._broken(self._refreshed_facts().damage)
        return list(self._intact_rows(entity for entity in broken if not is_intact(entity)))

    def _broken(self, damage: Damage) -> list[Entity]:
        """Entities that a verification found damaged and still are, in their vector or entry."""
        if not damage.is_open:
            return []
        fields, pages = self._reader.with_vectors, self._reader.entities
        found = pages(fields) if damage.is_partial else [self._reader.by_keys(damage.keys, fields).values()]
        entities = (entity for page in found for entity in page)
        return [entity for entity in entities if not is_intact(entity) or self._schema.row_of(entity) is None]

    def verify(self) -> Verification:
        """Check every row and vector. What is damaged is recorded, so that the next ``index`` repairs it.

        Raises:
            GalleryError: rows are missing.
        """
        count, entries, damaged, keys = 0, 0, [], []
        for page in self._reader.entities(self._reader.with_vectors):
            for entity in page:
                row = self._schema.row_of(entity)
                entries += row is None
                count += row is not None
                if row is None or not is_intact(entity):
                    keys.append(str(entity[KEY]))
                    damaged += [row] if row is not None else []
        facts = self._refreshed_facts()
        if facts.format > 1 and (keys or facts.damage.is_open):
            with contextlib.suppress(GalleryError):  # a user who may only read gets the result all the same
                self._alter(damage_property(secrets.token_hex(8), sorted(keys)))
        return Verification(count, tuple(sorted(damaged, key=row_order)), entries=entries)

    def unreadable(self, source: str) -> dict[str, tuple[int, int]]:
        """Files of a source that could not be read, by path: size (bytes) and modification time (ns)."""
        return self._notes.unreadable(source)

    def kept_out(self, digests: Iterable[str]) -> set[str]:
        """Those of some contents (SHA-256, hex) that were forgotten and must not be added."""
        return self._notes.kept_out(digests)

    def kept_out_state(self) -> str:
        """The key and digests behind :meth:`kept_out`, as an opaque text; empty if nothing was forgotten."""
        return self._notes.kept_out_state()

    def removed(self) -> list[GalleryRow]:
        """No rows: Milvus does not return removed ones."""
        self._connection.refuse_closed()
        return []

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()
