"""The local store: an SQLite catalogue and one append-only file of vectors in a folder.

Commit protocol: the vectors of a batch are written and synced, then one SQLite transaction adds their rows; that commit
is the only commit point. A longer vector file is a torn tail and is cut when the store is next opened for writing. One
writer holds an advisory lock that dies with its process; readers take no lock, each call sees one moment's snapshot.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import GalleryError, OutputError, UsageError, printable
from rrid_edge.files import sync_path
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.local import vector_file as files
from rrid_edge.gallery.local.catalogue import FILE_NAME, Catalogue
from rrid_edge.gallery.local.folder import create_catalogue, take_lock
from rrid_edge.gallery.local.projection import (
    FIT_ROWS,
    Projection,
    ProjectionFacts,
    ProjectionFiles,
    dimensions_for,
    fit_basis,
    project,
)
from rrid_edge.gallery.local.search import TWO_PASS_ROWS, best, find
from rrid_edge.gallery.local.view import BLOCK_ROWS, Vectors, View, columns, memory_budget_bytes
from rrid_edge.gallery.shared import DTYPES, UNKNOWN, refuse_foreign
from rrid_edge.model.spec import ModelSpec


@dataclass(frozen=True)
class _Snapshot:
    """One moment of the store."""

    info: GalleryInfo
    form: files.VectorFormat
    path: Path
    projection: ProjectionFacts | None


class LocalGallery(Closable):
    """A gallery in a folder of its own; see :class:`rrid_edge.gallery.base.Gallery`.

    Args:
        folder: of the index.
        write: open for writing: takes the lock, cuts a torn tail, removes stray files.
        spec: the model that will be used; another fingerprint is refused. None takes what is there.

    Attributes:
        spec: of the model that made the descriptors.
        memory_budget_bytes: vectors are kept decoded up to here, once they are scanned a second time.

    Raises:
        GalleryError: no index, damaged, or of a newer format.
        GalleryBusyError: another writer is at work.
        FingerprintMismatchError: it was indexed with another model.
    """

    forgetting = "their descriptors overwritten"

    def __init__(self, folder: Path, *, write: bool = False, spec: ModelSpec | None = None) -> None:
        self.folder = folder
        self._lock: int | None = take_lock(folder) if write and folder.is_dir() else None
        self.memory_budget_bytes = memory_budget_bytes()
        self._seen: tuple[tuple[int, int], _Snapshot] | None = None
        self._viewed: tuple[tuple[int, int], View] | None = None
        try:
            self._catalogue = Catalogue(folder, read_only=not write)
        except BaseException:
            self._release_lock()
            raise
        try:
            snapshot = self._snapshot()
            self.spec = snapshot.info.spec
            if spec is not None:
                refuse_foreign(self.where, self.spec, spec)
            if write:
                self._recover()
            else:
                files.check_file(snapshot.path, snapshot.form, snapshot.info.slots)
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
        """Make an empty gallery, or open for writing the one that is there.

        Raises:
            OutputError: the folder cannot be written.
            UsageError: an unknown dtype.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown: expected one of {', '.join(DTYPES)}", parameter="dtype")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = take_lock(folder)
            try:
                if not (folder / FILE_NAME).exists():
                    form = files.VectorFormat(spec.dimension, dtype, 0, spec.fingerprint)
                    files.create(folder / form.file_name, form)
                    create_catalogue(folder, spec, dtype)
            finally:
                os.close(lock)
        except OSError as error:
            raise OutputError(
                f"{printable(folder)}: the index cannot be written ({error.strerror}); make the folder writable, or "
                "name another location",
                parameter="gallery",
            ) from error
        return cls(folder, write=True, spec=spec)

    @property
    def where(self) -> str:
        """The folder of the index, as messages name it."""
        return printable(self.folder)

    def info(self) -> GalleryInfo:
        """What the store says of itself now."""
        return self._snapshot().info

    def _snapshot(self) -> _Snapshot:
        with self._catalogue.transaction() as connection:
            return self._read_snapshot(connection)

    def _read_snapshot(self, connection: sqlite3.Connection) -> _Snapshot:
        moment = self._catalogue.moment()
        if self._seen is None or self._seen[0] != moment:
            self._seen = (moment, self._new_snapshot(connection))
        return self._seen[1]

    def _new_snapshot(self, connection: sqlite3.Connection) -> _Snapshot:
        facts = self._catalogue.facts(connection)
        rows = self._catalogue.count(connection)
        try:
            spec = ModelSpec.from_metadata(json.loads(facts["spec"]), where=printable(self.folder))
            info = GalleryInfo(
                spec, facts["model"], rows, int(facts["slots"]), facts["dtype"], int(facts["generation"])
            )
        except (KeyError, ValueError) as error:
            raise GalleryError(
                f"{printable(self.folder)}: the index's facts are damaged ({error}); index again"
            ) from error
        form = files.VectorFormat(spec.dimension, info.dtype, info.generation, spec.fingerprint)
        projection = ProjectionFacts.from_json(facts.get("projection", ""))
        return _Snapshot(info, form, self.folder / form.file_name, projection)

    def _recover(self) -> None:
        """Bring the files to what the catalogue has committed: cut a torn tail, remove stray generations."""
        snapshot = self._snapshot()
        files.check_file(snapshot.path, snapshot.form, snapshot.info.slots)
        os.truncate(snapshot.path, files.HEADER_BYTES + snapshot.info.slots * snapshot.form.row_bytes)
        if files.committed_rows(snapshot.path) != snapshot.info.slots:
            files.mark_committed(snapshot.path, snapshot.info.slots)
        cache = ProjectionFiles(self.folder, snapshot.info.generation)
        for stray in (*self.folder.glob("vec.*"), *self.folder.glob("cache.*")):
            if stray not in (snapshot.path, cache.basis_path, cache.rows_path):
                stray.unlink()

    def rows(self) -> list[GalleryRow]:
        """All live rows, in the order of their paths."""
        return self._catalogue.rows()

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The live rows of some paths, in no order; paths that are not there are left out."""
        with self._catalogue.transaction() as connection:
            return list(self._catalogue.rows_at(connection, self._catalogue.slots_of(connection, paths)).values())

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file by its path, in no order; unchecked."""
        return self._catalogue.file_stats()

    def set_model(self, model: Path) -> None:
        """Remember which model file was used, for queries to come."""
        if self.info().model != str(model):
            self._catalogue.set_fact("model", str(model))

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors (N, D) in one commit; see the contract.

        Raises:
            OutputError: the disk refused; the store is closed and nothing that was committed is lost.
        """
        if not rows:
            return
        snapshot = self._snapshot()
        stored = snapshot.form.encode(vectors)
        if stored.shape != (len(rows), snapshot.form.dimension):
            raise UsageError(
                f"descriptors of shape {stored.shape} do not fit {len(rows)} rows of {snapshot.form.dimension} values"
            )
        with self._closing_on_failure():
            position = files.HEADER_BYTES + snapshot.info.slots * snapshot.form.row_bytes
            files.append(snapshot.path, stored.tobytes(), position)
            with self._catalogue.transaction(write=True) as connection:
                self._catalogue.insert(connection, rows, snapshot.info.slots, files.checksums(stored))
            files.mark_committed(snapshot.path, snapshot.info.slots + len(rows))

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and times of crops whose content is the same."""
        if rows:
            with self._closing_on_failure():
                self._catalogue.update_stat(rows)

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Take crops out; with ``overwrite`` their vectors are zeroed on the disk and the catalogue's pages cleaned."""
        chosen = self.rows_of(list(paths))
        with self._closing_on_failure():
            with self._catalogue.transaction(write=True) as connection:
                connection.executemany("UPDATE row SET dead = 1 WHERE slot = ?", [(row.slot,) for row in chosen])
                if overwrite:
                    connection.executemany(
                        "DELETE FROM row WHERE path = ?", [(os.fsencode(row.path),) for row in chosen]
                    )
            if overwrite:
                self._overwrite_dead()
                self._catalogue.checkpoint()
        return len(chosen)

    def _overwrite_dead(self) -> None:
        """Zero every slot that no live row owns: also those of earlier versions of the forgotten crops."""
        snapshot = self._snapshot()
        live = {slot for slot, _ in self._checksums()}
        dead = [slot for slot in range(snapshot.info.slots) if slot not in live]
        zeros = bytes(snapshot.form.row_bytes)
        descriptor = os.open(snapshot.path, os.O_WRONLY)
        try:
            for slot in dead:
                files.write_all(descriptor, zeros, files.HEADER_BYTES + slot * len(zeros))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if snapshot.projection is not None:
            cache = ProjectionFiles(self.folder, snapshot.info.generation)
            self._catalogue.set_fact("projection", cache.overwrite(snapshot.projection, dead).to_json())

    def compact(self) -> int:
        """Write a new vector file without dead slots and switch to it in one commit; returns the slots freed."""
        snapshot, rows = self._snapshot(), sorted(self.rows(), key=lambda row: row.slot)
        form = files.VectorFormat(
            snapshot.form.dimension, snapshot.form.dtype, snapshot.form.generation + 1, snapshot.form.fingerprint
        )
        target = self.folder / form.file_name
        old = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        with self._closing_on_failure():
            files.create(target, form)
            for start in range(0, len(rows), 256):
                chunk = np.ascontiguousarray(old[[row.slot for row in rows[start : start + 256]]])
                files.append(target, chunk.tobytes(), files.HEADER_BYTES + start * form.row_bytes)
            sync_path(self.folder)
            with self._catalogue.transaction(write=True) as connection:
                connection.execute("DELETE FROM row")
                for key, value in (("generation", str(form.generation)), ("slots", "0"), ("projection", "")):
                    connection.execute("UPDATE info SET value = ? WHERE key = ?", (value, key))
                self._catalogue.insert(connection, rows, 0, [row.crc32 for row in rows])
            files.mark_committed(target, len(rows))
        snapshot.path.unlink()
        old_cache = ProjectionFiles(self.folder, snapshot.info.generation)
        for path in (old_cache.basis_path, old_cache.rows_path):
            path.unlink(missing_ok=True)
        self.refresh_projection()
        return snapshot.info.slots - len(rows)

    def search(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        search_filter: SearchFilter | None = None,
        *,
        fast: bool = False,
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for every query (Q, D); see the contract.

        Rows whose vector does not fit its checksum are left out: they are embedded again by the next index.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits.
            search_filter: which rows may answer.
            fast: score a fixed number of rows by estimates instead of all that could be among the best: a row may be missed.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        search_filter = search_filter or SearchFilter()
        with self._moment() as (connection, view):
            if queries.ndim != 2 or queries.shape[1] != view.info.spec.dimension or top_k < 1:
                raise UsageError(
                    f"queries of shape {queries.shape}, top {top_k}: expected (Q, {view.info.spec.dimension}) and at least 1"
                )
            allowed = view.passing(search_filter)
            if search_filter.not_paths:
                allowed &= ~np.isin(view.slots, self._catalogue.slots_of(connection, search_filter.not_paths))
            found = find(view, queries, allowed, top_k, fast=fast)
            wanted = sorted({slot for one in found for slot in one.slots.tolist()})
            by_slot = self._catalogue.rows_at(connection, wanted)
        hits = tuple(best(view, query, one, by_slot, top_k) for query, one in zip(queries, found, strict=True))
        modes, scored = tuple(one.mode for one in found), tuple(one.rescored for one in found)
        return SearchResult(hits, modes, int(allowed.sum()), scored)

    @contextlib.contextmanager
    def _moment(self) -> Iterator[tuple[sqlite3.Connection, View]]:
        """One moment's arrays, and the transaction that still sees it; looks again where a compaction came between."""
        for _ in range(20):
            with self._catalogue.transaction() as connection:
                try:
                    view = self._view(connection)
                except FileNotFoundError:
                    continue
                yield connection, view
                return
        raise GalleryError(f"{printable(self.folder)}: the index changes faster than it can be read; try again")

    def _view(self, connection: sqlite3.Connection) -> View:
        snapshot = self._read_snapshot(connection)
        moment = self._catalogue.moment()
        if self._viewed is None or self._viewed[0] != moment:
            stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
            decoding = Vectors(stored, self.memory_budget_bytes)
            slots, cameras, times, crcs = columns(self._catalogue.columns(connection, UNKNOWN))
            self._viewed = (
                moment,
                View(snapshot.info, decoding, slots, cameras, times, crcs, self._load_projection(snapshot)),
            )
        return self._viewed[1]

    def _load_projection(self, snapshot: _Snapshot) -> Projection | None:
        facts = snapshot.projection
        if facts is None or snapshot.info.slots < TWO_PASS_ROWS:
            return None
        return ProjectionFiles(self.folder, snapshot.info.generation).load(facts, snapshot.form.dimension)

    def damaged(self) -> list[GalleryRow]:
        """Rows whose vectors do not fit their checksums: all vectors are read; bounds that are damaged are forgotten.

        Cheaper than :meth:`verify`, which also lets SQLite look at its pages and reads every entry anew.

        Raises:
            GalleryError: the entry of such a row does not fit its own checksum.
        """
        snapshot = self._snapshot()
        self._bounds_are_sound(snapshot)
        stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        slots = files.damaged_slots(self._checksums(), stored)
        with self._catalogue.transaction() as connection:
            return list(self._catalogue.rows_at(connection, slots).values())

    def _checksums(self) -> list[tuple[int, int]]:
        with self._catalogue.transaction() as connection:
            return self._catalogue.checksums(connection)

    def finish(self) -> None:
        """Bring the bounds of the two-pass search in step; see :meth:`refresh_projection`."""
        self.refresh_projection()

    def refresh_projection(self) -> None:
        """Bring the bounds of the two-pass search in step with the rows; the basis is fitted again when they doubled.

        Small galleries need none. Part of indexing; a search works without it, more slowly.

        Raises:
            OutputError: the disk refused; nothing that was committed is lost.
        """
        snapshot = self._snapshot()
        slots = snapshot.info.slots
        if slots < TWO_PASS_ROWS:
            return
        cache = ProjectionFiles(self.folder, snapshot.info.generation)
        facts = snapshot.projection
        known = cache.load(facts, snapshot.form.dimension) if facts is not None else None
        stored = files.map_rows(snapshot.path, snapshot.form, slots)
        with self._closing_on_failure():
            if facts is None or known is None or slots >= 2 * facts.fitted_on:
                live = np.array([slot for slot, _ in self._checksums()], np.int64)
                if not len(live):
                    return
                chosen = live[np.linspace(0, len(live) - 1, min(FIT_ROWS, len(live))).astype(np.int64)]
                basis = fit_basis(np.asarray(stored[chosen], np.float32), dimensions_for(snapshot.form.dimension))
                # Forgotten before it is replaced: a reader must never pair one basis with another's rows.
                self._catalogue.set_fact("projection", "")
                facts = replace(cache.create(basis), fitted_on=slots)
            else:
                basis = known.basis
            if facts.rows == slots:
                return
            while facts.rows < slots:
                part = stored[facts.rows : min(slots, facts.rows + BLOCK_ROWS)]
                facts = cache.append(facts, project(basis, np.asarray(part, np.float32)))
            self._catalogue.set_fact("projection", facts.to_json())

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D)."""
        snapshot = self._snapshot()
        stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        return np.asarray(stored[[row.slot for row in rows]], np.float32)

    def verify(self) -> Verification:
        """Check the catalogue's pages and entries, every stored vector against its checksum, and that no commit is missing.

        SQLite drops what follows a damaged page of its write-ahead log without a word: commits are lost, not wrong. The
        vector file remembers how many rows there were.

        Raises:
            GalleryError: the catalogue itself is damaged.
        """
        self._catalogue.check_integrity()
        rows = self._catalogue.rows(fresh=True)
        snapshot = self._snapshot()
        stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        slots = set(files.damaged_slots([(row.slot, row.crc32) for row in rows], stored))
        damaged = tuple(row for row in rows if row.slot in slots)
        lost = max(0, files.committed_rows(snapshot.path) - snapshot.info.slots)
        return Verification(len(rows), damaged, self._bounds_are_sound(snapshot), lost)

    def _bounds_are_sound(self, snapshot: _Snapshot) -> bool:
        """Whether the projected rows fit their checksum; a writer forgets those that do not, to make them again."""
        facts = snapshot.projection
        if facts is None:
            return True
        sound = ProjectionFiles(self.folder, snapshot.info.generation).checksum(facts) == facts.crc32
        if not sound and self._lock is not None:
            self._catalogue.set_fact("projection", "")
        return sound

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """After a failed write the state of the files is unknown: close; the next opening recovers."""
        if self._lock is None:
            raise GalleryError(f"{printable(self.folder)}: the index is not open for writing")
        try:
            yield
        except OSError as error:
            self.close()
            raise OutputError(
                f"{printable(self.folder)}: the index cannot be written ({error.strerror or error}); what was committed is "
                "kept: free some space and run the command again"
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
        self._viewed = None
        self._release_lock()
