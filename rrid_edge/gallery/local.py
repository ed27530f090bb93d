"""The local store: an SQLite catalogue and one append-only file of vectors in a folder.

Commit protocol: the vectors of a batch are written and synced, then one SQLite transaction adds their rows; that commit
is the only commit point. A longer vector file is a torn tail and is cut when the store is next opened for writing. One
writer holds an advisory lock that dies with its process; readers take no lock, each call sees one moment's snapshot.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.errors import ForeignGalleryError, GalleryError, OutputError, UsageError, printable
from rrid_edge.files import sync_path
from rrid_edge.gallery import vectors as files
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, Hit, NewRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.catalogue import FILE_NAME, Catalogue
from rrid_edge.gallery.search import Decode, approximate_scores, candidates, exact_scores
from rrid_edge.spec import ModelSpec

MEMORY_BUDGET_BYTES = 1 << 30
"""Decoded vectors are kept in memory up to here once they are asked for a second time."""


@dataclass(frozen=True)
class _Snapshot:
    """One moment of the store."""

    info: GalleryInfo
    form: files.VectorFormat
    path: Path


class LocalGallery:
    """A gallery in a folder of its own; see :class:`rrid_edge.gallery.base.Gallery`.

    Args:
        folder: of the index.
        write: open for writing: takes the lock, cuts a torn tail, removes stray files.
        spec: the model that will be used; another fingerprint is refused. None takes what is there.

    Raises:
        GalleryError: no index, damaged, of a newer format, or another writer is at work.
        ForeignGalleryError: it was indexed with another model.
    """

    def __init__(self, folder: Path, *, write: bool = False, spec: ModelSpec | None = None) -> None:
        self.folder = folder
        self._lock: int | None = _take_lock(folder) if write and folder.is_dir() else None
        self._decoded: tuple[tuple[int, int], NDArray[np.float32]] | None = None
        self._asked: tuple[int, int] | None = None
        try:
            self._catalogue = Catalogue(folder, read_only=not write)
            if spec is not None:
                self._refuse_foreign(spec)
            if write:
                self._recover()
            else:
                snapshot = self._snapshot()
                files.check_file(snapshot.path, snapshot.form, snapshot.info.slots)
        except FileNotFoundError as error:
            self._release_lock()
            raise GalleryError(
                f"{printable(folder)}: the index lacks its vector file; remove that folder and index again"
            ) from error
        except BaseException:
            self._release_lock()
            raise

    @classmethod
    def create(cls, folder: Path, spec: ModelSpec, *, dtype: str = "float16") -> LocalGallery:
        """Make an empty gallery, or open for writing the one that is there.

        Raises:
            OutputError: the folder cannot be written.
            UsageError: an unknown dtype.
        """
        if dtype not in files.DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown: expected one of {', '.join(files.DTYPES)}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(folder)
            try:
                if not (folder / FILE_NAME).exists():
                    form = files.VectorFormat(spec.dimension, dtype, 0, spec.fingerprint)
                    files.create(folder / _vector_name(form), form)
                    _create_catalogue(folder, spec, dtype)
            finally:
                os.close(lock)
        except OSError as error:
            raise OutputError(
                f"{printable(folder)}: the index cannot be written ({error.strerror}); make the folder writable, or name "
                "another place with --store DIR"
            ) from error
        return cls(folder, write=True, spec=spec)

    @property
    def info(self) -> GalleryInfo:
        """What the store says of itself now."""
        return self._snapshot().info

    def _snapshot(self) -> _Snapshot:
        with self._catalogue.transaction() as connection:
            facts = dict(connection.execute("SELECT key, value FROM info").fetchall())
            rows = int(connection.execute("SELECT count(*) FROM row WHERE dead = 0").fetchone()[0])
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
        return _Snapshot(info, form, self.folder / _vector_name(form))

    def _refuse_foreign(self, spec: ModelSpec) -> None:
        own = self._snapshot().info.spec
        if own.fingerprint != spec.fingerprint:
            raise ForeignGalleryError(
                f"{printable(self.folder)}: this gallery was indexed with another model ({own.backbone}, fingerprint "
                f"{own.fingerprint[:12]}) than the one given ({spec.backbone}, {spec.fingerprint[:12]}): give that model "
                "with --model, or index again with: rrid-edge index FOLDER --rebuild"
            )

    def _recover(self) -> None:
        """Bring the files to what the catalogue has committed: cut a torn tail, remove stray generations."""
        snapshot = self._snapshot()
        files.check_file(snapshot.path, snapshot.form, snapshot.info.slots)
        os.truncate(snapshot.path, files.HEADER_BYTES + snapshot.info.slots * snapshot.form.row_bytes)
        for stray in self.folder.glob("vec.*"):
            if stray != snapshot.path:
                stray.unlink()

    def rows(self) -> list[GalleryRow]:
        """All live rows, in the order of their paths."""
        return self._catalogue.rows()

    def set_model(self, model: Path) -> None:
        """Remember which model file was used, for queries to come."""
        if self.info.model != str(model):
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
            _append(snapshot.path, stored.tobytes(), position)
            with self._catalogue.transaction(write=True) as connection:
                self._catalogue.insert(connection, rows, snapshot.info.slots, files.checksums(stored))

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and times of crops whose content is the same."""
        if rows:
            with self._closing_on_failure():
                self._catalogue.update_stat(rows)

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Take crops out; with ``overwrite`` their vectors are zeroed on the disk and the catalogue's pages cleaned."""
        wanted = set(paths)
        chosen = [row for row in self.rows() if row.path in wanted]
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
        live = {row.slot for row in self.rows()}
        zeros = bytes(snapshot.form.row_bytes)
        descriptor = os.open(snapshot.path, os.O_WRONLY)
        try:
            for slot in range(snapshot.info.slots):
                if slot not in live:
                    files.write_all(descriptor, zeros, files.HEADER_BYTES + slot * len(zeros))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def compact(self) -> int:
        """Write a new vector file without dead slots and switch to it in one commit; returns the slots freed."""
        snapshot, rows = self._snapshot(), sorted(self.rows(), key=lambda row: row.slot)
        form = files.VectorFormat(
            snapshot.form.dimension, snapshot.form.dtype, snapshot.form.generation + 1, snapshot.form.fingerprint
        )
        target = self.folder / _vector_name(form)
        old = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        with self._closing_on_failure():
            files.create(target, form)
            for start in range(0, len(rows), 256):
                chunk = np.ascontiguousarray(old[[row.slot for row in rows[start : start + 256]]])
                _append(target, chunk.tobytes(), files.HEADER_BYTES + start * form.row_bytes)
            sync_path(self.folder)
            with self._catalogue.transaction(write=True) as connection:
                connection.execute("DELETE FROM row")
                for key, value in (("generation", str(form.generation)), ("slots", "0")):
                    connection.execute("UPDATE info SET value = ? WHERE key = ?", (value, key))
                self._catalogue.insert(connection, rows, 0, [row.crc32 for row in rows])
        snapshot.path.unlink()
        return snapshot.info.slots - len(rows)

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for every query (Q, D); see the contract.

        Rows whose vector does not fit its checksum are left out: they are embedded again by the next index.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        snapshot, rows, stored = self._consistent()
        if queries.ndim != 2 or queries.shape[1] != snapshot.form.dimension or top_k < 1:
            raise UsageError(
                f"queries of shape {queries.shape}, top {top_k}: expected (Q, {snapshot.form.dimension}) and at least 1"
            )
        by_slot = {row.slot: row for row in rows if search_filter is None or search_filter.passes(row)}
        allowed = np.array(sorted(by_slot), np.int64)
        scores = approximate_scores(queries, len(stored), self._decoder(snapshot, stored, len(queries)))
        hits, rescored = [], 0
        for query, own in zip(queries, scores, strict=True):
            best, count = self._best(query, own, allowed, by_slot, stored, top_k)
            hits.append(best)
            rescored += count
        return SearchResult(tuple(hits), "scan", len(allowed), rescored)

    def _best(
        self,
        query: NDArray[np.float32],
        scores: NDArray[np.float32],
        allowed: NDArray[np.int64],
        by_slot: dict[int, GalleryRow],
        stored: NDArray[np.generic],
        top_k: int,
    ) -> tuple[tuple[Hit, ...], int]:
        """Exact scores of the candidates, damaged rows left out; and how many rows were scored."""
        count = 0
        while True:
            chosen = candidates(scores, allowed, top_k)
            count += len(chosen)
            damaged = [slot for slot in chosen.tolist() if zlib.crc32(stored[slot].tobytes()) != by_slot[slot].crc32]
            if not damaged:
                break
            allowed = np.setdiff1d(allowed, np.array(damaged, np.int64))
        exact = exact_scores(query, np.asarray(stored[chosen], np.float32)) if len(chosen) else np.empty(0, np.float32)
        found = [Hit(by_slot[slot], float(score)) for slot, score in zip(chosen.tolist(), exact, strict=True)]
        found.sort(key=lambda hit: (-hit.score, os.fsencode(hit.row.path)))
        return tuple(found[:top_k]), count

    def _consistent(self) -> tuple[_Snapshot, list[GalleryRow], NDArray[np.generic]]:
        """Facts, rows and vectors of one moment; looks again where a compaction came between."""
        for _ in range(20):
            snapshot = self._snapshot()
            rows = self.rows()
            with contextlib.suppress(FileNotFoundError):
                stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
                if self._snapshot().info == snapshot.info and all(row.slot < snapshot.info.slots for row in rows):
                    return snapshot, rows, stored
        raise GalleryError(f"{printable(self.folder)}: the index changes faster than it can be read; try again")

    def _decoder(self, snapshot: _Snapshot, stored: NDArray[np.generic], queries: int) -> Decode:
        key = (snapshot.info.generation, len(stored))
        if self._decoded is not None and self._decoded[0] == key:
            decoded = self._decoded[1]
            return lambda block: decoded[block]
        fits = stored.size * 4 <= MEMORY_BUDGET_BYTES
        if fits and (queries >= 8 or self._asked == key):
            decoded = np.asarray(stored, np.float32)
            self._decoded = (key, decoded)
            return lambda block: decoded[block]
        self._asked = key
        return lambda block: np.asarray(stored[block], np.float32)

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D)."""
        snapshot = self._snapshot()
        stored = files.map_rows(snapshot.path, snapshot.form, snapshot.info.slots)
        return np.asarray(stored[[row.slot for row in rows]], np.float32)

    def verify(self) -> Verification:
        """Check the catalogue's pages and entries, and every stored vector against its checksum.

        Raises:
            GalleryError: the catalogue itself is damaged.
        """
        self._catalogue.check_integrity()
        self._catalogue.rows(fresh=True)
        _, rows, stored = self._consistent()
        damaged = tuple(row for row in rows if zlib.crc32(stored[row.slot].tobytes()) != row.crc32)
        return Verification(len(rows), damaged)

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
        except GalleryError:
            self.close()
            raise

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def close(self) -> None:
        """Close the files and release the lock; safe to call twice."""
        self._catalogue.close()
        self._decoded = None
        self._release_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def remove_index(folder: Path) -> None:
    """Remove an index, and nothing else that may lie in its folder.

    Raises:
        GalleryError: another process is writing it.
    """
    if not folder.is_dir():
        return
    lock = _take_lock(folder)
    try:
        for pattern in (f"{FILE_NAME}*", "vec.*", "cache.*", "writer.lock"):
            for file in folder.glob(pattern):
                file.unlink()
        with contextlib.suppress(OSError):  # something of the user's lies in it
            folder.rmdir()
    finally:
        os.close(lock)


def _vector_name(form: files.VectorFormat) -> str:
    return f"vec.{form.generation}.{'f16' if form.dtype == 'float16' else 'f32'}"


def _append(path: Path, data: bytes, position: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        files.write_all(descriptor, data, position)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _create_catalogue(folder: Path, spec: ModelSpec, dtype: str) -> None:
    """Make the catalogue beside its place and move it there whole: a kill leaves none or a good one."""
    partial = folder / "new"
    partial.mkdir(exist_ok=True)
    for stray in partial.iterdir():
        stray.unlink()
    Catalogue.create(partial, spec, dtype)
    sync_path(partial / FILE_NAME)
    (partial / FILE_NAME).replace(folder / FILE_NAME)
    for stray in partial.iterdir():
        stray.unlink()
    partial.rmdir()
    sync_path(folder)


def _take_lock(folder: Path) -> int:
    """The writer's lock, freed by the kernel when its process dies.

    Raises:
        GalleryError: another process writes.
        OutputError: the lock file cannot be made.
    """
    try:
        descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(
            f"{printable(folder)}: the index cannot be written ({error.strerror}); make it writable, or name another place "
            "with --store DIR"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise GalleryError(
            f"{printable(folder)}: another process is writing this index; wait for it, or stop it, and try again"
        ) from error
    return descriptor
