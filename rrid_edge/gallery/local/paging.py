"""Pages of the rows of a gallery in a folder, from its columns: only the rows of the page itself are read."""

from __future__ import annotations

import sqlite3
import threading

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local import catalogue
from rrid_edge.gallery.local.schema import from_bytes, to_bytes
from rrid_edge.gallery.paging import PageRequest, RowPage, select

Numbers = NDArray[np.int64]
_NO_ROW = -1


class SlotIds:
    """Ids by slot of one vector file. A slot never gets another row, so later states read new slots only."""

    def __init__(self) -> None:
        self._ids: Numbers = np.empty(0, np.int64)
        self._lock = threading.Lock()

    def of(self, connection: sqlite3.Connection, slots: Numbers, count: int) -> Numbers:
        """Ids of some slots: int64, like ``slots``; -1 for an entry that is damaged.

        Args:
            connection: in a transaction.
            slots: int64 (N,).
            count: number of slots of the state.
        """
        with self._lock:
            known = len(self._ids)
            if known < count:
                query = "SELECT slot, id FROM row WHERE slot >= ? AND slot < ? AND typeof(id) = 'integer'"
                read = np.array(connection.execute(query, (known, count)).fetchall(), np.int64).reshape(-1, 2)
                grown = np.full(count, _NO_ROW, np.int64)
                grown[:known] = self._ids
                grown[read[:, 0]] = read[:, 1]
                self._ids = grown
            return self._ids[slots]


def read_page(
    connection: sqlite3.Connection,
    request: PageRequest,
    slots: Numbers,
    columns: tuple[Numbers, Numbers],
    generation: int,
) -> RowPage:
    """One page.

    Args:
        connection: in a transaction.
        request: which rows.
        slots: int64 (N,): slots of the rows that pass the request's filter.
        columns: times and ids of these rows.
        generation: number of the vector file.
    """
    times, ids = columns
    kept = np.ones(len(slots), np.bool_)
    if request.label is not None:
        kept &= np.isin(slots, slots_of_label(connection, request.label))
    if request.ids is not None:
        kept &= np.isin(ids, list(request.ids))
    slots, times, ids = slots[kept], times[kept], ids[kept]
    places, after = select(times, ids, request)
    chosen = [int(slots[place]) for place in places]
    rows = catalogue.rows_at(connection, generation, chosen)
    return RowPage([rows[slot] for slot in chosen if slot in rows], after, len(slots))


def slots_of_label(connection: sqlite3.Connection, label: str) -> list[int]:
    """Slots of the live rows of a label. Reads the whole table: some 40 ms per 100,000 rows."""
    query = "SELECT slot FROM row WHERE dead = 0 AND label = ?"
    return [slot for (slot,) in connection.execute(query, (to_bytes(label),))]


def label_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Number of live rows by label. Reads the whole table, as :func:`slots_of_label`."""
    query = "SELECT label, count(*) FROM row WHERE dead = 0 AND typeof(label) = 'blob' GROUP BY label"
    return {from_bytes(label) or "": count for label, count in connection.execute(query)}
