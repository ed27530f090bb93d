"""The local store: a SQLite catalogue and one append-only vector file in a folder.

Commit protocol: vectors are written and synced, then one SQLite transaction adds their rows. That commit is the only
commit point. The next writer cuts a torn tail. One writer holds an advisory lock, which the kernel releases when its
process dies. Readers take no lock; each call reads one snapshot. Design: ``docs/decisions/local-gallery.md``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import GalleryError, OutputError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.bounds import bounds_are_intact, discard_bounds, needs_bounds, refresh_bounds
from rrid_edge.gallery.local.catalogue import Catalogue
from rrid_edge.gallery.local.folder import create_index, take_lock
from rrid_edge.gallery.local.maintenance import compact_files, damaged_rows, erase_dead_slots, recover, verify_vectors
from rrid_edge.gallery.local.search import best_hits, find_candidates
from rrid_edge.gallery.local.snapshot import Snapshot, SnapshotReader
from rrid_edge.gallery.shared import refuse_foreign, refuse_unfitting, refuse_unknown_dtype
from rrid_edge.model.spec import ModelSpec


class LocalGallery(Closable):
    """A gallery in a folder of its own; implements :class:`rrid_edge.gallery.base.Gallery`.

    Args:
        folder: of the index.
        write: open for writing. This takes the writer's lock and recovers from a kill.
        spec: the model that will be used. A gallery of another fingerprint is refused; None accepts any.

    Attributes:
        folder: as given.
        spec: of the model that made the descriptors.

    Raises:
        GalleryMissingError: the folder has no index.
        GalleryBusyError: another process writes the index.
        GalleryError: the index is damaged or has a newer format.
        FingerprintMismatchError: the gallery was indexed with another model.
    """

    erasure = "their descriptors overwritten"

    def __init__(self, folder: Path, *, write: bool = False, spec: ModelSpec | None = None) -> None:
        self.folder = folder
        self._lock: int | None = take_lock(folder) if write and folder.is_dir() else None
        try:
            self._catalogue = Catalogue(folder, read_only=not write)
        except BaseException:
            self._release_lock()
            raise
        self._snapshots = SnapshotReader(folder, self._catalogue)
        try:
            snapshot = self._snapshots.current()
            self.spec = snapshot.info.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
            if write:
                recover(folder, snapshot)
            else:
                snapshot.check_vector_file()
        except FileNotFoundError as error:
            self.close()
            raise GalleryError(
                f"{printable(folder)}: the index lacks its vector file; remove that folder and index again"
            ) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, folder: Path, spec: ModelSpec, *, dtype: str = "float16") -> LocalGallery:
        """Create an empty gallery, or open the existing one for writing.

        Args:
            folder: of the index; made if it does not exist.
            spec: of the model.
            dtype: type of the stored values of a new gallery: ``float16`` or ``float32``.

        Raises:
            UsageError: the dtype is unknown.
            OutputError: the folder cannot be written.
            ArtefactError: an existing index is busy, damaged, of a newer format or of another model.
        """
        refuse_unknown_dtype(dtype)
        create_index(folder, spec, dtype)
        return cls(folder, write=True, spec=spec)

    @property
    def where(self) -> str:
        """The folder of the index, as messages name it."""
        return printable(self.folder)

    def info(self) -> GalleryInfo:
        """The gallery's facts."""
        return self._snapshots.current().info

    def rows(self) -> list[GalleryRow]:
        """All live rows, ordered by path.

        Raises:
            GalleryError: a row does not match its checksum.
        """
        return self._catalogue.rows()

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The live rows of some paths, in no order; unknown paths are left out.

        Raises:
            GalleryError: a row does not match its checksum.
        """
        with self._catalogue.transaction() as connection:
            return list(self._catalogue.rows_at(connection, self._catalogue.slots_of(connection, paths)).values())

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file, by path. Checksums are not verified."""
        return self._catalogue.file_stats()

    def set_model(self, model: Path) -> None:
        """Record the model file, for later queries."""
        if self.info().model != str(model):
            self._catalogue.set_fact("model", str(model))

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors, float32 (N, D), in one commit. A path that exists is replaced.

        Raises:
            UsageError: the shape is wrong.
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        if not rows:
            return
        snapshot = self._snapshots.current()
        vector_format, slots = snapshot.vector_format, snapshot.info.slots
        refuse_unfitting(vectors.shape, len(rows), vector_format.dimension)
        stored = vector_format.encode(vectors)
        with self._writing():
            position = vector_file.HEADER_BYTES + slots * vector_format.row_bytes
            vector_file.append(snapshot.vector_path, stored.tobytes(), position)
            with self._catalogue.transaction(write=True) as connection:
                self._catalogue.insert(connection, rows, slots, vector_file.checksums(stored))
            vector_file.mark_committed(snapshot.vector_path, slots + len(rows))

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and modification times of crops whose content is the same."""
        if rows:
            with self._writing():
                self._catalogue.update_stat(rows)

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Remove crops; returns how many existed.

        With ``overwrite`` their vectors and bounds are overwritten with zeros, and their catalogue entries erased.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        removed = self.rows_of(list(paths))
        with self._writing():
            with self._catalogue.transaction(write=True) as connection:
                connection.executemany("UPDATE row SET dead = 1 WHERE slot = ?", [(row.slot,) for row in removed])
                if overwrite:
                    connection.executemany(
                        "DELETE FROM row WHERE path = ?", [(os.fsencode(row.path),) for row in removed]
                    )
            if overwrite:
                erase_dead_slots(self.folder, self._catalogue, self._snapshots.current())
                self._catalogue.checkpoint()
        return len(removed)

    def compact(self) -> int:
        """Write a new vector file without dead slots; returns the number of slots freed.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        with self._writing():
            freed = compact_files(self.folder, self._catalogue, self._snapshots.current())
        self.finish()
        return freed

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
            top_k: hits per query, at least 1.
            search_filter: which rows may answer.
            fast: score a fixed number of rows, chosen by estimates; a row may be missed.

        Raises:
            UsageError: the shape or ``top_k`` is wrong.
            GalleryError: the index is damaged.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        search_filter = search_filter or SearchFilter()
        if queries.ndim != 2 or queries.shape[1] != self.spec.dimension or top_k < 1:
            raise UsageError(
                f"queries of shape {queries.shape}, top {top_k}: expected (Q, {self.spec.dimension}) and at least 1",
                parameter="top_k",
            )
        with self._snapshots.search_view() as (connection, view):
            allowed = view.passing(search_filter)
            if search_filter.not_paths:
                allowed &= ~np.isin(view.slots, self._catalogue.slots_of(connection, search_filter.not_paths))
            chosen = find_candidates(view, queries, allowed, top_k, fast=fast)
            slots = sorted({slot for own in chosen for slot in own.slots.tolist()})
            rows = self._catalogue.rows_at(connection, slots)
        hits = tuple(best_hits(view, query, own, rows, top_k) for query, own in zip(queries, chosen, strict=True))
        modes, scored = tuple(own.mode for own in chosen), tuple(own.rescored for own in chosen)
        return SearchResult(hits, modes, int(allowed.sum()), scored)

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D). Checksums are not verified."""
        stored = self._snapshots.current().map_vectors()
        return np.asarray(stored[[row.slot for row in rows]], np.float32)

    def damaged(self) -> list[GalleryRow]:
        """Rows whose vectors do not match their checksums. Reads all vectors; discards damaged bounds.

        Raises:
            GalleryError: a damaged row does not match its own checksum.
        """
        snapshot = self._snapshots.current()
        self._check_bounds(snapshot)
        return damaged_rows(self._catalogue, snapshot)

    def finish(self) -> None:
        """Update the bounds of the two-pass search: the last step of indexing. Small galleries have no bounds.

        Raises:
            OutputError: the disk refused a write. The store is closed; committed rows are kept.
        """
        snapshot = self._snapshots.current()
        if needs_bounds(snapshot.info):
            with self._writing():
                stored = snapshot.map_vectors()
                refresh_bounds(self.folder, self._catalogue, snapshot.info, snapshot.projection, stored)

    def verify(self) -> Verification:
        """Check the catalogue's pages and rows, all vectors and the bounds, and whether commits were lost.

        Raises:
            GalleryError: the catalogue is damaged.
        """
        self._catalogue.check_integrity()
        rows = self._catalogue.rows(fresh=True)
        snapshot = self._snapshots.current()  # read after the rows, so that it has all of their slots
        return verify_vectors(rows, snapshot, bounds_sound=self._check_bounds(snapshot))

    def _check_bounds(self, snapshot: Snapshot) -> bool:
        """Whether the bounds are intact. A writer discards damaged ones."""
        intact = bounds_are_intact(self.folder, snapshot.info, snapshot.projection)
        if not intact and self._lock is not None:
            discard_bounds(self._catalogue)
        return intact

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Close the store if a write fails: its files are then in an unknown state, which the next opening repairs."""
        if self._lock is None:
            raise GalleryError(f"{printable(self.folder)}: the index is open for reading; open it for writing")
        try:
            yield
        except OSError as error:
            self.close()
            raise OutputError(
                f"{printable(self.folder)}: the index cannot be written ({error.strerror or error}); committed rows "
                "are kept: free some space and run the command again"
            ) from error
        except (GalleryError, OutputError):
            self.close()
            raise

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def close(self) -> None:
        """Close the files and release the lock; safe to call twice."""
        self._catalogue.close()
        self._snapshots.clear()
        self._release_lock()
