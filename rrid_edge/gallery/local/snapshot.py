"""Committed states of a local gallery: facts, vectors and arrays, cached until the next commit.

Reading takes no lock that a writer waits for. Each moment has a connection of its own, whose transaction holds the
catalogue's state, and a shared lock on the vector file, which keeps a compaction from erasing it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rrid_edge.errors import GalleryChangedError, GalleryError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow
from rrid_edge.gallery.local import format1
from rrid_edge.gallery.local.bounds import FACT, load_bounds
from rrid_edge.gallery.local.catalogue import FILE_NAME, live_rows, read_entries
from rrid_edge.gallery.local.column_table import ColumnTable, read_table
from rrid_edge.gallery.local.database import ReadPool, is_damage, translated
from rrid_edge.gallery.local.facts import Facts, info_of, read_facts, vector_format_of
from rrid_edge.gallery.local.mapped import MappedVectors
from rrid_edge.gallery.local.nested import NestedBounds
from rrid_edge.gallery.local.paging import SlotIds
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.schema import Columns, columns_of, joined_columns, read_columns
from rrid_edge.gallery.local.view import DecodedRows, Vectors, View, memory_budget_bytes
from rrid_edge.gallery.shared import row_order

_TRIES = 20


class State:
    """One committed state. Threads may share it.

    Args:
        folder: of the index.
        facts: of the state.
        damaged: number of damaged copies of the facts.
        earlier: a state whose arrays are taken over if it has the same vector file, or None.

    Attributes:
        facts: as given.
        damaged: as given.
        info: facts as callers get them.
        projection: facts of the projection, or None.
        vectors: the memory-mapped vector file.
        slot_ids: ids by slot of this file.

    Raises:
        GalleryError: a fact is unreadable, or the vector file is damaged.
        FileNotFoundError: a compaction has replaced the vector file.
    """

    def __init__(self, folder: Path, facts: Facts, damaged: int, earlier: State | None = None) -> None:
        self.facts, self.damaged = facts, damaged
        self.info: GalleryInfo = info_of(facts, folder)
        self.projection = ProjectionFacts.from_json(facts[FACT])
        form = vector_format_of(self.info)
        self.vectors = MappedVectors(folder / form.file_name, form, self.info.slots)
        self._folder = folder
        self._lock = threading.Lock()
        self._rows: list[GalleryRow] | None = None
        self._view: View | None = None
        self._table: ColumnTable | None = None
        self._reads_file, self._budget_bytes = True, 0
        self._arrays, self.slot_ids = _Arrays(), SlotIds()
        if earlier is not None and earlier.vectors.identity == self.vectors.identity:
            self._arrays, self.slot_ids = earlier.arrays(), earlier.slot_ids

    def arrays(self) -> _Arrays:
        """What a later state of the same file can take over."""
        view = self._view
        if view is None:
            return self._arrays
        bounds = (self.projection, view.bounds)
        return _Arrays(view.vectors.decoded, view.columns, self.info.slots, self._table, bounds, self._budget_bytes)

    def rows(self, connection: sqlite3.Connection) -> list[GalleryRow]:
        """All live rows in order; the list is shared."""
        with self._lock:
            if self._rows is None:
                rows = live_rows(connection, self.info.generation, self.info.rows)
                self._rows = sorted(rows, key=row_order)
            return self._rows

    def view(self, connection: sqlite3.Connection, *, of_catalogue: bool = False) -> View:
        """The arrays of a search.

        Args:
            connection: in a transaction that holds the state.
            of_catalogue: do not use the column file, now and later: an entry of the catalogue is damaged.
        """
        with self._lock:
            if of_catalogue and self._table is not None:
                self._arrays, self._view = replace(self.arrays(), columns=None), None
                self._table, self._reads_file = None, False
            if self._view is None:
                columns = self._columns(connection)
                if columns is None:  # an entry is damaged: take those that match their own checksums
                    columns = columns_of(read_entries(connection, self.info.generation).live)
                self._budget_bytes = self._arrays.budget_bytes or memory_budget_bytes()
                vectors = Vectors(self.vectors.stored, self._budget_bytes, self._arrays.decoded)
                self._view = View(vectors, columns, self._bounds())
                self._arrays = _Arrays()
            return self._view

    def _bounds(self) -> NestedBounds | None:
        known, bounds = self._arrays.bounds
        if bounds is not None and known == self.projection:
            return bounds
        return load_bounds(self._folder, self.info, self.projection)

    def _columns(self, connection: sqlite3.Connection) -> Columns | None:
        """The columns of all live rows; None if they do not match the checksum in the facts."""
        if self._reads_file:
            self._table = read_table(self._folder, self.facts, self._arrays.table)
        if self._table is not None:
            return self._table.columns
        try:
            known = self._arrays.columns
            if known is not None:
                # Adding is the usual change. The checksum tells whether an earlier row has changed too.
                columns = joined_columns(known, read_columns(connection, self._arrays.slots))
                if self._is_sound(columns):
                    return columns
            columns = read_columns(connection)
        except (AttributeError, OverflowError, TypeError, ValueError):
            return None
        return columns if self._is_sound(columns) else None

    def _is_sound(self, columns: Columns) -> bool:
        return str(columns.total) == self.facts["total"] and len(columns.slots) == self.info.rows


@dataclass(frozen=True)
class _Arrays:
    """Arrays of one state.

    Attributes:
        decoded: the vectors, if all of them are decoded.
        columns: of the live rows, or None.
        slots: number of slots that ``columns`` covers.
        table: what was read of the column file, or None.
        bounds: the facts of a projection, and what was read of its files.
        budget_bytes: memory that decoded vectors may take; 0 if nobody has asked the system, which takes 2 ms.
    """

    decoded: DecodedRows | None = None
    columns: Columns | None = None
    slots: int = 0
    table: ColumnTable | None = None
    bounds: tuple[ProjectionFacts | None, NestedBounds | None] = (None, None)
    budget_bytes: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A committed state that is held, and the connection that reads its catalogue.

    Attributes:
        connection: in a transaction, or of a copy in memory in format 2.
        disk: in a transaction: of the catalogue itself, whatever its format is.
        state: of the gallery.
    """

    connection: sqlite3.Connection
    disk: sqlite3.Connection
    state: State


class SnapshotReader:
    """Holds committed states of one index. Its methods may be called from any thread.

    Args:
        folder: of the index.

    Attributes:
        path: the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._folder = folder
        self._pool = ReadPool(self.path)
        self._lock = threading.Lock()
        self._state: State | None = None
        self._fingerprint = ""
        self._upgraded: tuple[object, sqlite3.Connection] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[Snapshot]:
        """Hold the last committed state.

        Raises:
            ClosedError: the gallery is closed.
            GalleryError: the index is damaged.
        """
        with contextlib.ExitStack() as stack:
            failed_at = None
            for _ in range(_TRIES):
                attempt = stack.enter_context(contextlib.ExitStack())
                connection = attempt.enter_context(self._transaction())
                with translated(self.path):
                    reading, facts, damaged = self._read(connection)
                try:
                    state = self._state_of(facts, damaged)
                    found = attempt.enter_context(state.vectors.held())
                except (FileNotFoundError, GalleryError) as error:
                    if failed_at == facts["commit"]:  # no compaction did this
                        raise _unusable(error, self._folder) from error
                    found = False
                if found:
                    yield Snapshot(reading, connection, state)
                    return
                failed_at = facts["commit"]
                attempt.close()
        raise GalleryChangedError(
            f"{printable(self._folder)}: the index changed {_TRIES} times while it was opened; try again"
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._pool.acquire()
        try:
            with translated(self.path):
                connection.execute("BEGIN")
            yield connection
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            self._pool.release(connection)

    def _read(self, connection: sqlite3.Connection) -> tuple[sqlite3.Connection, Facts, int]:
        """The connection to read rows from, and the facts."""
        state = self._state
        if state is not None and _commit_of(connection) == state.facts["commit"]:
            return connection, state.facts, state.damaged
        if format1.is_format_1(connection):
            connection = self._upgrade(connection)
        read = read_facts(connection, self._folder)
        return connection, read.facts, read.damaged

    def _upgrade(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        key = format1.state_of(connection)
        with self._lock:
            if self._upgraded is None or self._upgraded[0] != key:
                self._upgraded = (key, format1.upgraded_copy(connection, self._folder))
            return self._upgraded[1]

    def _state_of(self, facts: Facts, damaged: int) -> State:
        state = self._state
        if state is None or state.facts["commit"] != facts["commit"]:
            state = State(self._folder, facts, damaged, earlier=state)
            if state.info.spec.fingerprint != (self._fingerprint or state.info.spec.fingerprint):
                raise GalleryChangedError(
                    f"{printable(self._folder)}: the index was rebuilt with another model since it was opened; open it "
                    "again with that model"
                )
            self._fingerprint = state.info.spec.fingerprint
            self._state = state
        return state

    def clear(self) -> None:
        """Forget the cached state."""
        self._state = None

    def close(self) -> None:
        """Close the connections that no moment uses."""
        self._state = None
        self._pool.close()


def _commit_of(connection: sqlite3.Connection) -> str | None:
    try:
        found = connection.execute("SELECT value FROM info WHERE key = 'commit'").fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return None
    return None if found is None else found[0]


def _unusable(error: Exception, folder: Path) -> GalleryError:
    if isinstance(error, GalleryError):
        return error
    return GalleryError(
        f"{printable(folder)}: the index lacks its vector file: expected the file that the catalogue names; restore it "
        "from a backup, or embed all crops again with: rrid-edge index FOLDER"
    )
