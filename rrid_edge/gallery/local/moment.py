"""One committed state of a local gallery; implements :class:`rrid_edge.gallery.contract.Moment`."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import ClosedError, GalleryChangedError, GalleryError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow, SearchFilter, SearchResult
from rrid_edge.gallery.labelled import RowsByLabel
from rrid_edge.gallery.local import catalogue
from rrid_edge.gallery.local.database import translated
from rrid_edge.gallery.local.labelled import read_by_label, read_labelled
from rrid_edge.gallery.local.paging import label_counts, read_page
from rrid_edge.gallery.local.sampling import read_sample
from rrid_edge.gallery.local.search import Candidates, best_hits, find_candidates
from rrid_edge.gallery.local.snapshot import Snapshot, State
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.paging import PageRequest, RowPage, RowsMark
from rrid_edge.gallery.sampling import RowSample
from rrid_edge.gallery.shared import UNKNOWN
from rrid_edge.gallery.summary import RowSummary


class LocalMoment:
    """A held state. Its methods may be called from any thread; they wait for each other.

    Args:
        snapshot: the state.
        folder: of the index.
        now: returns the live row of an id in the state of now, or None.
    """

    def __init__(self, snapshot: Snapshot, folder: Path, now: Callable[[int], GalleryRow | None]) -> None:
        self._snapshot: Snapshot | None = snapshot
        self._folder, self._now = folder, now
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        with self._lock:
            if self._snapshot is None:
                raise ClosedError(f"the moment of the gallery {printable(self._folder)}")
            with translated(self._folder / catalogue.FILE_NAME):
                yield self._snapshot.connection, self._snapshot.state

    def end(self) -> None:
        """Refuse further calls."""
        with self._lock:
            self._snapshot = None

    def info(self) -> GalleryInfo:
        """The gallery's facts."""
        with self._reading() as (_, state):
            return state.info

    def commit(self) -> int:
        """Number of the commit that made this state, from 1."""
        with self._reading() as (_, state):
            return int(state.facts["commit"].partition("-")[0])

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        """All live rows, or those of some sources, in order. Damaged entries are left out."""
        with self._reading() as (connection, state):
            rows = state.rows(connection)
        if sources is None:
            return list(rows)
        wanted = set(sources)
        return [row for row in rows if row.source in wanted]

    def in_order(self, block_rows: int) -> Iterator[list[GalleryRow]]:
        """All intact live rows, in order, in blocks. Other calls may come between two blocks."""
        with self._reading() as (connection, state):
            cursor = catalogue.cursor_in_order(connection)
        while True:
            with self._reading():
                records = cursor.fetchmany(block_rows)
                block = catalogue.intact_rows(records, state.info.generation)
            if block:
                yield block
            if not records:
                return

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        """The live rows of some paths of a source, in no order."""
        with self._reading() as (connection, state):
            files = ((source, path) for path in dict.fromkeys(paths))
            return list(catalogue.rows_of_files(connection, state.info.generation, files).values())

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        """The live rows of some ids, in no order."""
        with self._reading() as (connection, state):
            return list(catalogue.rows_by_id(connection, state.info.generation, dict.fromkeys(ids)).values())

    def file_stats(self, source: str) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file of a source. Checksums are not verified."""
        with self._reading() as (connection, state):
            try:
                return catalogue.file_stats(connection, source)
            except AttributeError:  # an entry is damaged
                rows = state.rows(connection)
                return {row.path: (row.size, row.mtime_ns) for row in rows if row.path and row.source == source}

    def sources(self) -> dict[str, int]:
        """Number of live rows by source."""
        with self._reading() as (connection, state):
            columns = state.view(connection).columns
        return {name or "": count for name, count in _counted(columns.source_names, columns.sources)}

    def cameras(self) -> dict[str | None, int]:
        """Number of live rows by camera."""
        with self._reading() as (connection, state):
            columns = state.view(connection).columns
        return dict(_counted(columns.camera_names, columns.cameras))

    def summary(self) -> RowSummary:
        """What all live rows tell, from their columns."""
        with self._reading() as (connection, state):
            columns = state.view(connection).columns
        return RowSummary(self.cameras(), self.sources(), _span(columns.times), _span(columns.frames))

    def page(self, request: PageRequest) -> RowPage:
        """One page of the rows, from their columns. Damaged entries are left out."""
        with self._reading() as (connection, state):
            view = state.view(connection)
            passing = _allowed(connection, state, view, request.search_filter)
            slots = view.slots[passing]
            ids = state.slot_ids.of(connection, slots, state.info.slots)
            return read_page(connection, request, slots, (view.columns.times[passing], ids), state.info.generation)

    def ids(self) -> NDArray[np.int64]:
        """Ids of all live rows: int64 (rows,)."""
        with self._reading() as (connection, state):
            return state.slot_ids.of(connection, state.view(connection).slots, state.info.slots)

    def labels(self) -> dict[str, int]:
        """Number of live rows by label."""
        with self._reading() as (connection, _):
            return label_counts(connection)

    def rows_by_label(self, most: int) -> RowsByLabel:
        """All labelled rows, and the ``most`` newest unlabelled ones. Damaged entries are left out."""
        with self._reading() as (connection, state):
            return read_by_label(connection, state.info.generation, most)

    def rows_labelled(self, label: str) -> list[GalleryRow]:
        """The rows of a label, in no order. Damaged entries are left out."""
        with self._reading() as (connection, state):
            return read_labelled(connection, state.info.generation, label)

    def mark(self) -> RowsMark:
        """A mark that differs from an earlier one if rows were added, changed or removed."""
        with self._reading() as (_, state):
            return RowsMark(state.info.rows, int(state.facts["next_id"]), state.facts["total"])

    def sample(self, count: int) -> RowSample:
        """At most ``count`` rows with their descriptors. Checksums are not verified."""
        with self._reading() as (connection, state):
            return read_sample(connection, state.view(connection), count)

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for each query. Rows with a damaged vector or entry are left out.

        Args:
            queries: float32 (Q, D), unit length.
            top_k: hits per query, at least 1.
            search_filter: which rows may answer.

        Raises:
            UsageError: the shape, a value or ``top_k`` is wrong.
            GalleryError: the index is damaged.
        """
        search_filter = search_filter or SearchFilter()
        with self._reading() as (connection, state):
            queries = _accepted_queries(queries, top_k, state.info.spec.dimension)
            left_out: set[int] = set()
            view = state.view(connection)
            while True:
                allowed = _allowed(connection, state, view, search_filter)
                allowed &= ~np.isin(view.slots, list(left_out)) if left_out else True
                chosen = find_candidates(view, queries, allowed, top_k)
                slots = sorted({slot for found in chosen for slot in found.slots.tolist()})
                rows = catalogue.rows_at(connection, state.info.generation, slots)
                wrong = [slot for slot in slots if slot not in rows or not search_filter.passes(rows[slot])]
                if wrong:  # damaged entries: the catalogue alone tells all of them at once
                    view = state.view(connection, of_catalogue=True)
                    left_out.update(wrong)
                else:
                    return _result(chosen, rows, top_k, int(allowed.sum()))

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D), each checked against its row's checksum.

        Rows of an older vector file are found again by their id.

        Raises:
            GalleryChangedError: a row was forgotten or replaced since; read again.
            GalleryError: a vector is damaged.
        """
        with self._reading() as (connection, state):
            stored = state.vectors.stored
            slots = _live_slots(state.view(connection), rows, state.info.generation)
            # A copy is checked, because another process may erase a row at any time.
            result = np.zeros((len(rows), stored.shape[1]), stored.dtype)
            result[slots >= 0] = stored[slots[slots >= 0]]
            lost = [
                index
                for index, (row, slot) in enumerate(zip(rows, slots.tolist(), strict=True))
                if slot < 0 or zlib.crc32(result[index].tobytes()) != row.crc32
            ]
            ids = [rows[index].id for index in lost]
            found = catalogue.rows_by_id(connection, state.info.generation, ids)
            for index in lost:
                row = found.get(rows[index].id)
                vector = None if row is None else np.array(stored[row.slot])
                if vector is None or zlib.crc32(vector.tobytes()) != rows[index].crc32:
                    raise self._explained(rows[index], state)
                result[index] = vector
            return np.asarray(result, np.float32)

    def _explained(self, row: GalleryRow, state: State) -> GalleryError:
        """Why the vector of a row cannot be given out."""
        now = self._now(row.id)
        if now is not None and now.crc32 == row.crc32 and now.generation == state.info.generation:
            return GalleryError(
                f"{printable(self._folder)}: the stored descriptor of {printable(row.name)} does not match its "
                "checksum; repair the index with: rrid-edge index FOLDER"
            )
        return GalleryChangedError(
            f"{printable(self._folder)}: {printable(row.name)} was removed or replaced since its row was read; read "
            "the rows again and repeat"
        )


def _allowed(
    connection: sqlite3.Connection, state: State, view: View, search_filter: SearchFilter
) -> NDArray[np.bool_]:
    """Which rows of a view may answer: bool (rows,)."""
    allowed = view.passing(search_filter)
    if search_filter.not_files:
        own = catalogue.rows_of_files(connection, state.info.generation, search_filter.not_files)
        allowed &= ~np.isin(view.slots, [row.slot for row in own.values()])
    if search_filter.not_ids:
        left_out = catalogue.rows_by_id(connection, state.info.generation, search_filter.not_ids)
        allowed &= ~np.isin(view.slots, [row.slot for row in left_out.values()])
    return allowed


def _live_slots(view: View, rows: Sequence[GalleryRow], generation: int) -> NDArray[np.int64]:
    """Slots of rows of this generation that are live with the same vector: int64 (N,); -1 for others."""
    slots = np.array([row.slot if row.generation == generation else -1 for row in rows], np.int64)
    crcs = np.array([row.crc32 for row in rows], np.int64)
    if not len(view.slots):
        return np.full(len(rows), -1, np.int64)
    positions = np.minimum(np.searchsorted(view.slots, slots), len(view.slots) - 1)
    is_live = (view.slots[positions] == slots) & (view.columns.crcs[positions] == crcs)
    return np.where(is_live, slots, -1)


def _span(values: NDArray[np.int64]) -> tuple[int, int] | None:
    """The first and the last known value."""
    known = values[values != UNKNOWN]
    return (int(known.min()), int(known.max())) if len(known) else None


def _counted(names: Sequence[str | None], codes: NDArray[np.int64]) -> list[tuple[str | None, int]]:
    counts = zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True)
    return [(name, count) for name, count in counts if count]


def _accepted_queries(queries: NDArray[np.float32], top_k: int, dimension: int) -> NDArray[np.float32]:
    result = np.ascontiguousarray(queries, np.float32)
    if result.ndim != 2 or result.shape[1] != dimension or top_k < 1 or not np.isfinite(result).all():
        raise UsageError(
            f"queries of shape {result.shape}, top {top_k}: expected finite values (Q, {dimension}) and at least 1",
            parameter="top_k",
        )
    return result


def _result(chosen: Sequence[Candidates], rows: dict[int, GalleryRow], top_k: int, passed: int) -> SearchResult:
    hits = tuple(best_hits(own, rows, top_k) for own in chosen)
    return SearchResult(hits, tuple(own.mode for own in chosen), passed, tuple(own.rescored for own in chosen))
