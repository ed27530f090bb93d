"""The local store: a SQLite catalogue and one append-only vector file in a folder.

Commit protocol: vectors are written and synced, then one SQLite transaction adds their rows. That commit is the only
commit point. One writer holds an advisory lock, which the kernel releases when its process dies. Readers hold one
committed state each and wait for nobody. Design: ``docs/decisions/local-gallery.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.gallery.base import ForgetReport, GalleryInfo, GalleryRow, NewRow, Verification
from rrid_edge.gallery.local import notes, vector_file
from rrid_edge.gallery.local.bounds import FACT, needs_bounds, refresh_bounds
from rrid_edge.gallery.local.column_file import FACT as COLUMNS_FACT
from rrid_edge.gallery.local.database import file_mode, translated
from rrid_edge.gallery.local.facts import info_of, refuse_unknown_facts, vector_format_of
from rrid_edge.gallery.local.folder import DEFAULT_MODE, create_index
from rrid_edge.gallery.local.forgetting import empty_log, finish_erasing, left_over, mark_forgotten
from rrid_edge.gallery.local.maintenance import compact_files
from rrid_edge.gallery.local.reading import LocalReading
from rrid_edge.gallery.local.schema import refuse_unstorable
from rrid_edge.gallery.local.snapshot import SnapshotReader
from rrid_edge.gallery.local.verifying import bounds_are_sound, columns_are_sound, damaged_rows
from rrid_edge.gallery.local.writer import IndexWriter, refuse_reading
from rrid_edge.gallery.local.writing import add_rows, remove_rows, update_rows
from rrid_edge.gallery.shared import accepted_descriptors, accepted_rows, refuse_foreign, refuse_unknown_dtype
from rrid_edge.model.spec import ModelSpec


class LocalGallery(LocalReading, Closable):
    """A gallery in a folder of its own; implements :class:`rrid_edge.gallery.contract.GalleryStore`.

    Its methods may be called from any thread. Writing calls wait for each other; reading calls wait for nobody.

    Args:
        folder: of the index.
        write: open for writing. This takes the writer's lock, recovers from a kill, and migrates format 1.
        spec: the model that will be used. A gallery of another fingerprint is refused; None accepts any.
        check: opening for writing looks for damaged entries, which takes 0.2 s per 100,000 rows.

    Attributes:
        folder: as given.
        spec: of the model that made the descriptors.

    Raises:
        GalleryMissingError: the folder has no index.
        GalleryBusyError: another process writes the index.
        GalleryError: the index is damaged, has a newer format, or this user may not read it.
        FingerprintMismatchError: the gallery was indexed with another model.
    """

    def __init__(self, folder: Path, *, write: bool = False, spec: ModelSpec | None = None, check: bool = True) -> None:
        self.folder = folder
        self._writer = IndexWriter(folder, spec, check=check) if write and folder.is_dir() else None
        try:
            self._reader = SnapshotReader(folder)
            with self._reader.held() as snapshot:
                self.spec = snapshot.state.info.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
        except BaseException:
            self._close_writer()
            raise

    @classmethod
    def create(cls, folder: Path, spec: ModelSpec, *, dtype: str = "float16", mode: int = DEFAULT_MODE) -> LocalGallery:
        """Create an empty gallery, or open the existing one for writing.

        Args:
            folder: of the index; made if it does not exist.
            spec: of the model.
            dtype: type of the stored values of a new gallery: ``float16`` or ``float32``.
            mode: permissions of a new folder, for example ``0o750`` for one that a group may read. Files get the same
                without execution.

        Raises:
            UsageError: the dtype is unknown.
            OutputError: the folder cannot be written.
            ArtefactError: an existing index is busy, damaged, of a newer format or of another model.
        """
        refuse_unknown_dtype(dtype)
        create_index(folder, spec, dtype, mode)
        return cls(folder, write=True, spec=spec)

    def _open_writer(self) -> IndexWriter:
        if self._writer is None:
            raise refuse_reading(self.folder)
        self._writer.refuse_closed()
        return self._writer

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> list[int]:
        """Store crops with their descriptors, float32 (N, D), in one commit; returns their ids.

        A row whose source and path exist is replaced; with the same content it keeps its id, label and thumbnail.

        Raises:
            UsageError: a field or a descriptor is refused, a path occurs twice, or the shape is wrong. Nothing is
                written.
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        writer = self._open_writer()
        accepted = accepted_rows(rows)
        descriptors = accepted_descriptors(vectors, len(accepted), self.spec.dimension)
        for row in accepted:
            refuse_unstorable(row)
        if not accepted:
            return []
        with writer.writing():
            info = self._writer_info()
            form = vector_format_of(info)
            stored = form.encode(descriptors)
            path = self.folder / form.file_name
            position = vector_file.HEADER_BYTES + info.slots * form.row_bytes
            vector_file.append(path, stored.tobytes(), position)
            with writer.commit() as (connection, facts):
                ids = add_rows(connection, facts, accepted, vector_file.checksums(stored))
            vector_file.mark_committed(path, info.slots + len(accepted))
        return ids

    def _writer_info(self) -> GalleryInfo:
        return info_of(self._open_writer().facts(), self.folder)

    def update(self, rows: Sequence[GalleryRow]) -> None:
        """Write new fields of stored rows in one commit. Ids, paths, sources and vectors stay; lost rows are left out.

        Raises:
            UsageError: a field is refused. Nothing is written.
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        writer = self._open_writer()
        for row in rows:
            refuse_unstorable(row)
        accepted = [row for row in accepted_rows(rows) if isinstance(row, GalleryRow)]
        if accepted:
            with writer.commit() as (connection, facts):
                update_rows(connection, facts, accepted)

    def remove(self, rows: Iterable[int | str]) -> int:
        """Remove rows by id or by path (of any source) in one commit; returns how many existed.

        Vectors stay until compaction; thumbnails are deleted.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        with self._open_writer().commit() as (connection, facts):
            return remove_rows(connection, facts, rows)

    def forget(self, rows: Iterable[int | str], *, keep_out: bool = True) -> ForgetReport:
        """Remove rows by id or by path, and erase their vectors, bounds, thumbnails and entries.

        Rows that were removed earlier are erased too: those of the same paths, ids and contents. A kill at any moment
        leaves what the next opening for writing finishes.

        Args:
            rows: ids, or paths of any source.
            keep_out: remember the contents, so that indexing does not add them again. Other rows of the same content
                are forgotten too.

        Raises:
            OutputError: the disk refused a write. The store is closed; the next opening for writing finishes.
        """
        writer = self._open_writer()
        with writer.writing() as connection:
            with writer.commit() as (_, facts):
                found = mark_forgotten(connection, facts, rows, keep=keep_out)
            left = finish_erasing(connection, self.folder)
            self._reader.clear()
            is_empty = empty_log(connection, self.folder)
            left += left_over(self.folder, writer.erase_strays(), log_is_empty=is_empty)
            return ForgetReport(found, left)

    def unforget(self, digests: Iterable[str] | None = None) -> int:
        """Let some forgotten contents (SHA-256, hex), or all of them, be added again; returns how many."""
        with self._open_writer().commit() as (connection, facts):
            known, _ = notes.read_digests(connection)
            wanted = known if digests is None else {notes.keyed_digest(facts, digest) for digest in digests}
            notes.write_digests(connection, facts, known - wanted)
            return len(known & wanted)

    def restore_kept_out(self, state: str) -> None:
        """Take over what :meth:`kept_out_state` returned, so that a rebuilt gallery keeps people out.

        Raises:
            UsageError: the text is no such state, or this gallery has forgotten contents of its own.
        """
        if state:
            with self._open_writer().commit() as (connection, facts):
                notes.restore_kept_out(connection, facts, state)

    def remember(self, facts: Mapping[str, str]) -> None:
        """Record facts: ``model``, ``pattern``, ``time_from``, ``retention_s``; an empty text removes one.

        Raises:
            UsageError: a fact is unknown, or the retention is not a number of seconds. Nothing is written.
        """
        refuse_unknown_facts(facts)
        with self._open_writer().writing():
            if any(self._open_writer().facts()[key] != value for key, value in facts.items()):
                with self._open_writer().commit() as (_, changed):
                    changed |= {key: str.__str__(value) for key, value in facts.items()}

    def set_unreadable(self, source: str, files: Mapping[str, tuple[int, int]]) -> None:
        """Replace what :meth:`unreadable` returns for a source."""
        with self._open_writer().commit() as (connection, _):
            notes.set_unreadable(connection, source, files)

    def verify(self) -> Verification:
        """Check everything; see :meth:`LocalReading.verify`. A writer discards damaged bounds and columns.

        The commit writes the columns again, and :meth:`finish` makes the bounds again.
        """
        result = super().verify()
        if self._writer is not None:
            self._discard(bounds=not result.bounds_sound, columns=not result.columns_sound)
        return result

    def _discard(self, *, bounds: bool, columns: bool) -> None:
        damaged = [key for key, is_damaged in ((FACT, bounds), (COLUMNS_FACT, columns)) if is_damaged]
        if damaged:
            with self._open_writer().commit() as (_, facts):
                facts |= dict.fromkeys(damaged, "")

    def damaged(self) -> list[GalleryRow]:
        """Rows whose vectors do not match their checksums. Reads all vectors.

        Opened for writing, it mends the catalogue first: entries that cannot be corrected are deleted, so that indexing
        embeds their files again. Damaged bounds are discarded. Damaged rows without a file are removed, because nobody
        can embed them again.
        """
        if self._writer is not None:
            self._mend()
        with self._reader.held() as snapshot, translated(self._reader.path):
            columns = snapshot.state.view(snapshot.connection).columns
            vectors = list(zip(columns.slots.tolist(), columns.crcs.tolist(), strict=True))
            rows = damaged_rows(self._reader, snapshot, vectors)
        lost = [row.id for row in rows if row.path is None]
        if self._writer is not None and lost:
            self.remove(lost)
            rows = [row for row in rows if row.path is not None]
        return rows

    def _mend(self) -> None:
        writer = self._open_writer()
        with writer.writing() as connection, self._reader.held() as snapshot:
            bounds_sound = bounds_are_sound(self.folder, self._reader, snapshot)
            columns_sound = columns_are_sound(self.folder, self._reader, snapshot)
            writer.mend()
            finish_erasing(connection, self.folder)
            self._discard(bounds=not bounds_sound, columns=not columns_sound)
        self._reader.clear()
        writer.erase_strays()

    def finish(self) -> None:
        """Update the bounds of the two-pass search: the last step of indexing. Small galleries have no bounds.

        It also writes a missing column file, and erases what readers of older states still held before.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        writer = self._open_writer()
        with writer.writing() as connection:
            with self._reader.held() as snapshot:
                state = snapshot.state
                if needs_bounds(state.info):
                    stored, mode = state.vectors.stored, file_mode(self.folder)
                    refresh_bounds(self.folder, connection, state.info, state.projection, stored, mode)
            writer.complete_columns()
            empty_log(connection, self.folder)
            writer.erase_strays()

    def compact(self) -> int:
        """Write a new vector file without dead slots; returns the number of slots freed.

        The old file is overwritten with zeros and deleted as soon as nobody reads it.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        with self._open_writer().writing() as connection:
            freed = compact_files(connection, self.folder)
            self._reader.clear()
            self.finish()
        return freed

    def close(self) -> None:
        """Close the files and release the lock; safe to call twice. Moments that other threads hold go on."""
        self._reader.close()
        self._close_writer()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
