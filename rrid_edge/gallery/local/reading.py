"""The reading half of the local store. Each call reads one committed state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, SearchFilter, SearchResult, Verification
from rrid_edge.gallery.local import notes
from rrid_edge.gallery.local.catalogue import read_entries, rows_by_id
from rrid_edge.gallery.local.database import translated
from rrid_edge.gallery.local.moment import LocalMoment
from rrid_edge.gallery.local.snapshot import Snapshot, SnapshotReader
from rrid_edge.gallery.local.verifying import verify_index


class LocalReading:
    """Reads a gallery in a folder. Its methods may be called from any thread.

    Attributes:
        folder: of the index.
    """

    folder: Path
    _reader: SnapshotReader

    @property
    def where(self) -> str:
        """The folder of the index, as messages name it."""
        return printable(self.folder)

    @contextlib.contextmanager
    def moment(self) -> Iterator[LocalMoment]:
        """Hold one committed state. Other threads and processes may go on writing.

        Raises:
            ClosedError: the gallery is closed.
            GalleryError: the index is damaged.
        """
        with self._reader.held() as snapshot:
            moment = LocalMoment(snapshot, self.folder, self._row_now)
            try:
                yield moment
            finally:
                moment.end()

    def _row_now(self, id_: int) -> GalleryRow | None:
        with self._reader.held() as now, translated(self._reader.path):
            return rows_by_id(now.connection, now.state.info.generation, [id_]).get(id_)

    def info(self) -> GalleryInfo:
        """The gallery's facts."""
        with self.moment() as moment:
            return moment.info()

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        """All live rows, or those of some sources, ordered by path, then id. Damaged entries are left out."""
        with self.moment() as moment:
            return moment.rows(sources)

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        """The live rows of some paths of a source, in no order; unknown paths are left out."""
        with self.moment() as moment:
            return moment.rows_of(paths, source)

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        """The live rows of some ids, in no order; unknown ids are left out."""
        with self.moment() as moment:
            return moment.rows_by_id(ids)

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for each query; see :meth:`LocalMoment.search`."""
        with self.moment() as moment:
            return moment.search(queries, top_k, search_filter)

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D), checked; see :meth:`LocalMoment.vectors`."""
        with self.moment() as moment:
            return moment.vectors(rows)

    def file_stats(self, source: str) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file of a source. Checksums are not verified."""
        with self.moment() as moment:
            return moment.file_stats(source)

    def sources(self) -> dict[str, int]:
        """Number of live rows by source."""
        with self.moment() as moment:
            return moment.sources()

    def cameras(self) -> dict[str | None, int]:
        """Number of live rows by camera."""
        with self.moment() as moment:
            return moment.cameras()

    @contextlib.contextmanager
    def _catalogue(self) -> Iterator[Snapshot]:
        with self._reader.held() as snapshot, translated(self._reader.path):
            yield snapshot

    def removed(self) -> list[GalleryRow]:
        """Rows that were removed and whose vectors are still stored, in no order; compaction drops them."""
        with self._catalogue() as snapshot:
            return read_entries(snapshot.connection, snapshot.state.info.generation).dead

    def kept_out(self, digests: Iterable[str]) -> set[str]:
        """Those of some contents (SHA-256, hex) that were forgotten and must not be added."""
        with self._catalogue() as snapshot:
            facts = snapshot.state.facts
            if facts["kept_out"] == "0":
                return set()
            known, _ = notes.read_digests(snapshot.connection)
            return {digest for digest in digests if digest and notes.keyed_digest(facts, digest) in known}

    def kept_out_state(self) -> str:
        """The key and digests behind :meth:`kept_out`, as an opaque text; empty if nothing was forgotten."""
        with self._catalogue() as snapshot:
            return notes.kept_out_state(snapshot.connection, snapshot.state.facts)

    def unreadable(self, source: str) -> dict[str, tuple[int, int]]:
        """Files of a source that could not be read, by path: size (bytes), modification time (ns)."""
        with self._catalogue() as snapshot:
            files, _ = notes.read_unreadable(snapshot.connection)
        return {path: stat for (owner, path), stat in files.items() if owner == source}

    def thumbnails(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Thumbnails (JPEG) by id; rows without an intact one are left out."""
        with self._catalogue() as snapshot:
            live = rows_by_id(snapshot.connection, snapshot.state.info.generation, dict.fromkeys(ids))
            return notes.read_thumbnails(snapshot.connection, list(live))

    def verify(self) -> Verification:
        """Check the catalogue's pages and entries, all vectors and the bounds, and whether commits were lost.

        All of it belongs to one committed state, so a writer beside it raises no false alarm.

        Raises:
            GalleryError: the catalogue's pages are damaged.
        """
        return verify_index(self.folder, self._reader)
