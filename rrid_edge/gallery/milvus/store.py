"""The gallery in Milvus.

Writers need no lock between processes. Rows are upserted and deleted by key, so every step may be repeated; a row's key
holds its source, so indexers of different folders never meet. Facts that several writers change are entities or
properties of their own. Design: ``docs/decisions/milvus-gallery.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import GalleryError, UsageError
from rrid_edge.gallery.base import ForgetReport, GalleryRow, NewRow
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.bound import LowerBound
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.collection import (
    compact_segments,
    create_collection,
    ensure_index,
    read_facts,
    refuse_other_options,
    refuse_unknown_index_type,
)
from rrid_edge.gallery.milvus.facts import (
    FORMAT,
    PREFIX,
    CollectionFacts,
    mended_property,
    remembered_properties,
)
from rrid_edge.gallery.milvus.reading import MilvusReads
from rrid_edge.gallery.milvus.rows import Entity, Fields, is_intact, vector_of
from rrid_edge.gallery.milvus.schema import (
    KEY,
    THUMBNAIL,
    decode_text,
    path_id,
    record,
    refuse_unstorable,
)
from rrid_edge.gallery.milvus.writing import Writer, numbered
from rrid_edge.gallery.people_traces import erase_traces
from rrid_edge.gallery.shared import accepted_descriptors, accepted_rows, refuse_unknown_dtype
from rrid_edge.model.spec import ModelSpec

_TRIES = 3
_LEFT = (
    "the server's old files until its garbage collection, and its log of writes for the log's retention time "
    "(see docs/milvus.md)"
)
_LEFT_LITE = "the database file of Milvus Lite, which may keep old bytes"


class MilvusGallery(MilvusReads):
    """A gallery in a Milvus collection; implements :class:`rrid_edge.gallery.contract.GalleryStore`.

    Several threads may use one object, and several processes may write one collection.

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

    def __init__(self, address: MilvusAddress, *, spec: ModelSpec | None = None) -> None:
        super().__init__(address, spec=spec)
        bound = LowerBound(PREFIX, lambda: self._refreshed_facts().bound, self._alter)
        self._writer = Writer(self._connection, self._reader, bound, 4 * self.spec.dimension + 1024)
        self._with_thumbnails = Fields((*self._schema.fields, THUMBNAIL), 16_384)
        self._lock = threading.RLock()  # one thread at a time reads rows and writes them back

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
        """Create an empty gallery, or open the existing one for writing.

        Args:
            address: of the collection.
            spec: of the model.
            dtype: ``float16`` rounds values as the local store does, so that both give the same answers.
            index_type: key of :data:`rrid_edge.gallery.milvus.facts.INDEX_TYPES`. None means ``flat`` for a new
                collection, and any type for an existing one.
            replicas: replicas in the memory of query nodes. None means 1 for a new collection, any number for an
                existing one.

        Raises:
            UsageError: the dtype or index type is unknown, or an existing collection has another index type or number
                of replicas.
            GalleryError: an existing collection has format 1, which is read-only.
        """
        refuse_unknown_dtype(dtype)
        refuse_unknown_index_type(index_type)
        connection = Connection(address, creates=True)
        try:
            if not connection.call("has_collection"):
                create_collection(connection, CollectionFacts(spec, dtype, index_type or "flat", replicas or 1))
            facts = read_facts(connection, spec)
            refuse_other_options(str(address), facts, index_type, replicas)
            _refuse_format_1(str(address), facts)
            # A killed process may have left a collection without an index. Such a collection has no rows.
            ensure_index(connection, facts)
        finally:
            connection.close()
        return cls(address, spec=spec)

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> list[int]:
        """Store crops with their descriptors, float32 (N, D); returns their ids. Safe to repeat.

        A file that exists is replaced; with the same content it keeps its id, label and thumbnail. More than 16 MB
        are sent in several messages.

        Raises:
            UsageError: a field or descriptor is refused, a path occurs twice, or Milvus cannot hold a row. Nothing is
                written.
            GalleryError: the server refused a batch; earlier batches are kept.
        """
        self._refuse_reading_only()
        accepted = accepted_rows(rows)
        descriptors = accepted_descriptors(vectors, len(accepted), self.spec.dimension)
        refuse_unstorable(accepted)
        dtype = np.dtype(self._refreshed_facts().dtype)  # refuses a gallery that was rebuilt for another model
        stored = descriptors.astype(dtype).astype(np.float32)
        with self._lock:
            files = [(row.source, row.path) for row in accepted if row.path is not None]
            found = self._file_entities(files, self._with_thumbnails)
            before = {key: row for key, entity in found.items() if (row := self._schema.row_of(entity)) is not None}
            made = [numbered(row, before) for row in accepted]
            pictures = {before[key].id: entity[THUMBNAIL] for key, entity in found.items() if key in before}
            pairs = zip(made, stored, strict=True)
            self._writer.upsert([record(row, vector, pictures.get(row.id, "")) for row, vector in pairs])
        self._is_indexed = False
        return [row.id for row in made]

    def update(self, rows: Sequence[GalleryRow]) -> None:
        """Write new fields of stored rows. Milvus has no partial update, so this also rewrites the vectors.

        Ids, paths, sources and vectors stay. Rows that are gone, changed their content or are damaged are left out.

        Raises:
            UsageError: a field is refused, or Milvus cannot hold a row. Nothing is written.
        """
        self._refuse_reading_only()
        accepted = accepted_rows(rows)
        refuse_unstorable(accepted)
        new_rows = {self._schema.key_of(row): row for row in accepted if isinstance(row, GalleryRow)}
        fields = Fields((*self._reader.with_vectors.names, THUMBNAIL), self._reader.with_vectors.bytes + 8192)
        with self._lock:
            records = []
            for key, entity in self._reader.by_keys(new_rows, fields).items():
                old = self._schema.row_of(entity)
                if old is not None and old.id == new_rows[key].id and is_intact(entity):
                    records.append(record(new_rows[key], vector_of(entity), entity[THUMBNAIL]))
            self._writer.upsert(records)
        self._is_indexed = False

    def remove(self, rows: Iterable[int | str]) -> int:
        """Remove rows by id or by path, of any source; returns how many existed."""
        self._refuse_reading_only()
        with self._lock:
            keys = sorted(self._named(list(rows)))
            self._writer.delete(keys)
        return len(keys)

    def _named(self, rows: Sequence[int | str]) -> dict[str, Entity]:
        """Entities, by key, of rows by their ids and paths, damaged entries included."""
        for one in rows:
            if not isinstance(one, Integral | str) or isinstance(one, bool):
                raise UsageError(f"{one!r} names no row: expected the id of a row, a whole number, or its path, a text")
        ids = {int(one) for one in rows if not isinstance(one, str)}
        paths = {one for one in rows if isinstance(one, str)}
        found = self._reader.by_numbers("row_id", ids)
        found += [
            entity
            for entity in self._reader.by_numbers("path_id", map(path_id, paths))
            if decode_text(entity["path"]) in paths
        ]
        return {entity[KEY]: entity for entity in found}

    def forget(self, rows: Iterable[int | str], *, keep_out: bool = True) -> ForgetReport:
        """Remove rows by id or by path, and let the server rewrite its segments without them.

        With ``keep_out``, other rows of the same content are forgotten too, whatever their source.
        The contents are kept out first. So a kill at any step leaves rows that the next call forgets, or segments that
        the next call rewrites.
        """
        self._refuse_reading_only()
        wanted = list(rows)
        if not wanted:
            return ForgetReport(0)
        with self._lock:
            found = self._named(wanted)
            if keep_out:
                contents = {str(entity["sha256"]) for entity in found.values()}
                self._notes.keep_out(contents)
                found |= {entity[KEY]: entity for entity in self._reader.by_contents(contents)}
        keys = sorted(found)
        for _ in range(_TRIES):  # another thread or process may have been rewriting a row just now
            self._writer.delete(keys)
            compact_segments(self._connection)
            keys = sorted(self._reader.by_keys(keys, self._reader.scalars))
            if not keys:
                break
        traces = erase_traces(self.address, {int(entity["row_id"]) for entity in found.values()}, self._labels)
        return ForgetReport(len(found), (_LEFT_LITE if self.address.is_file else _LEFT, *traces))

    def _labels(self) -> set[str]:
        """The labels of all rows."""
        return {row.label for row in self.rows() if row.label is not None}

    def unforget(self, digests: Iterable[str] | None = None) -> int:
        """Let some forgotten contents (SHA-256, hex), or all of them, be added again; returns how many."""
        self._refuse_reading_only()
        return self._notes.unforget(digests)

    def restore_kept_out(self, state: str) -> None:
        """Take over what :meth:`kept_out_state` returned. Only for a gallery that has forgotten nothing since.

        Raises:
            UsageError: the state is damaged, or this gallery has forgotten other contents.
        """
        self._refuse_reading_only()
        self._notes.restore(state)

    def remember(self, facts: Mapping[str, str]) -> None:
        """Record facts: ``model``, ``pattern``, ``time_from``, ``retention_s``; an empty text removes one.

        Raises:
            UsageError: a name is unknown, or a value is of the wrong type.
        """
        self._refuse_reading_only()
        properties = remembered_properties(facts)
        known = self._refreshed_facts()
        changed = {PREFIX + name: value for name, value in facts.items() if known.fact(name) != value}
        if changed:
            self._alter({name: properties[name] for name in changed})

    def set_unreadable(self, source: str, files: Mapping[str, tuple[int, int]]) -> None:
        """Replace what :meth:`unreadable` returns for a source."""
        self._refuse_reading_only()
        self._notes.set_unreadable(source, files)

    def finish(self) -> None:
        """Wait until the index covers all rows, record their number, and clear mended damage.

        Entries that a verification found damaged and that were not stored again are deleted: no search answers them.
        """
        self._refuse_reading_only()
        if self._facts.index_type != "flat":
            self._await_index()
        self._writer.measure()
        damage = self._facts.damage
        broken = self._broken(damage)
        entries = [entity for entity in broken if self._schema.row_of(entity) is None]
        for entity in entries:  # the condition spares an entry that another process stores again right now
            self._writer.delete([entity[KEY]], f"check32 == {entity['check32']}")
        if damage.is_open and len(entries) == len(broken):
            self._alter(mended_property(damage.id))

    def compact(self) -> int:
        """Let Milvus rewrite its segments without removed rows. Returns 0: Milvus does not report how many it freed."""
        self._refuse_reading_only()
        compact_segments(self._connection)
        self._notes.compact(compact_segments)
        return 0

    def _refuse_reading_only(self) -> None:
        self._connection.refuse_closed()
        _refuse_format_1(self.where, self._facts)


def _refuse_format_1(where: str, facts: CollectionFacts) -> None:
    if facts.format == 1:
        raise GalleryError(
            f"{where}: this collection has format 1, which is read-only: expected format {FORMAT}; "
            "copy it into a new collection with: rrid-edge gallery copy"
        )
