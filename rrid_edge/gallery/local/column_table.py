"""The columns of one state, read from its column file. Later states of the same file read its new records only."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local import column_file
from rrid_edge.gallery.local.column_file import FIELDS, GONE, SLOT, SOURCE, ColumnFacts
from rrid_edge.gallery.local.column_names import Names, path_of_names, read_names
from rrid_edge.gallery.local.facts import Facts
from rrid_edge.gallery.local.schema import Columns

Numbers = NDArray[np.int64]


class _Growing:
    """Numbers of rows, with room for more at the end. Arrays given out earlier stay valid.

    Args:
        numbers: int64 (fields, rows and room).
        rows: number of rows.
    """

    def __init__(self, numbers: Numbers, rows: int) -> None:
        self._numbers, self._rows = numbers, rows
        self._lock = threading.Lock()

    def first(self, rows: int) -> Numbers:
        """The numbers of the first rows: int64 (fields, rows)."""
        return self._numbers[:, :rows]

    def extended(self, rows: int, added: Numbers) -> _Growing:
        """Numbers that begin with the first ``rows`` rows and go on with others."""
        stop = rows + added.shape[1]
        with self._lock:
            if self._rows == rows and stop <= self._numbers.shape[1]:
                self._numbers[:, rows:stop] = added
                self._rows = stop
                return self
        return self.copied(rows, added)

    def copied(self, rows: int, added: Numbers) -> _Growing:
        """The same in an array of its own."""
        stop = rows + added.shape[1]
        numbers = np.empty((len(FIELDS), stop + _room(stop)), np.int64)
        numbers[:, :rows], numbers[:, rows:stop] = self.first(rows), added
        return _Growing(numbers, stop)

    def shortened(self, rows: int) -> _Growing:
        """The first rows; the others are forgotten."""
        return _Growing(self._numbers, rows)


def _room(rows: int) -> int:
    """Room for a quarter more: a gallery that grows row by row is not copied each time."""
    return rows // 4


@dataclass(frozen=True)
class ColumnTable:
    """The columns of one state.

    Attributes:
        columns: of the live rows.
        facts: what was read.
        names: of cameras and sources.
        numbers: of the rows, and of those of later states.
    """

    columns: Columns
    facts: ColumnFacts
    names: Names
    numbers: _Growing


def read_table(folder: Path, facts: Facts, earlier: ColumnTable | None = None) -> ColumnTable | None:
    """The columns of all live rows of a state; None if it has no sound column file.

    Args:
        folder: of the index.
        facts: of the state.
        earlier: of an earlier state of the same vector file.
    """
    wanted = ColumnFacts.of(facts)
    if wanted is None:
        return None
    path = column_file.path_of(folder, int(facts["generation"]), wanted.number)
    found = None
    if earlier is not None and earlier.facts.number == wanted.number and earlier.facts.records <= wanted.records:
        found = _extended(earlier, path, wanted)
    if found is None:
        found = _extended(_empty(wanted.number), path, wanted)
    return found if found is not None and _is_plausible(found.columns, facts) else None


def columns_are_intact(folder: Path, facts: Facts) -> bool:
    """Whether the file that the facts name can be read. A state without one is intact: the next commit writes it."""
    return ColumnFacts.of(facts) is None or read_table(folder, facts) is not None


def _is_plausible(columns: Columns, facts: Facts) -> bool:
    """Whether columns fit what else is known of their state. Their checksum says so, but a look is cheap."""
    rows = int(facts["rows"])
    return len(columns.slots) == rows and (not rows or int(columns.slots[-1]) < int(facts["slots"]))


def _empty(number: int) -> ColumnTable:
    numbers = np.empty((len(FIELDS), 0), np.int64)
    return ColumnTable(
        _columns(numbers, Names(), 0), ColumnFacts(number, 0, 0, 0, 0, "0"), Names(), _Growing(numbers, 0)
    )


def _extended(known: ColumnTable, path: Path, facts: ColumnFacts) -> ColumnTable | None:
    """The table of a later state of the same file; None if what was added is damaged, or does not continue it."""
    if facts == known.facts:
        return known
    count, rows = facts.records - known.facts.records, len(known.columns.slots)
    records = column_file.read(path, known.facts, facts, 0 if rows else _room(count))
    names = read_names(path_of_names(path), known.names, facts.names_bytes, facts.names_crc32)
    if records is None or names is None or _highest_code(records[:, :count]) >= len(names.texts):
        return None
    numbers, rows = _applied(known.numbers, rows, _Growing(records, count), count)
    columns = _columns(numbers.first(rows), names, int(facts.total))
    return ColumnTable(columns, facts, names, numbers)


def _highest_code(records: Numbers) -> int:
    return int(records[FIELDS.index("camera") :].max(initial=0))


def _columns(numbers: Numbers, names: Names, total: int) -> Columns:
    slots, crcs, times, frames, cameras, sources = numbers
    return Columns(slots, crcs, times, frames, cameras, sources, names.texts, names.texts, total)


def _applied(known: _Growing, rows: int, records: _Growing, count: int) -> tuple[_Growing, int]:
    """The numbers of all live rows after some records, by ascending slot, and how many rows they are."""
    old, added = known.first(rows), records.first(count)
    slots = added[SLOT]
    if not count:
        return known, rows
    ascend = bool((slots[1:] > slots[:-1]).all()) and (not rows or bool(slots[0] > old[SLOT, -1]))
    if ascend and bool((added[SOURCE] != GONE).all()):
        return (known.extended(rows, added), rows + count) if rows else (records, count)
    return _settled(known.copied(rows, added) if rows else records, rows + count)


def _settled(records: _Growing, count: int) -> tuple[_Growing, int]:
    """The numbers of all live rows after some records, of which nobody else has an array: they are changed in place."""
    numbers = records.first(count)
    slots = numbers[SLOT]
    is_row = np.append(True, slots[1:] > np.maximum.accumulate(slots)[:-1])
    # Records of earlier slots are few. They change the first record of their slot, so that nothing has to be sorted.
    places, changes = np.flatnonzero(is_row), _last_of_each_slot(numbers[:, ~is_row])
    found = np.minimum(np.searchsorted(slots[places], changes[SLOT]), len(places) - 1)
    if not np.array_equal(slots[places[found]], changes[SLOT]):  # no commit writes this
        numbers = _last_of_each_slot(numbers)
        numbers = numbers[:, numbers[SOURCE] != GONE]
        return _Growing(numbers, numbers.shape[1]), numbers.shape[1]
    numbers[:, places[found]] = changes
    is_row &= numbers[SOURCE] != GONE
    rows = int(np.count_nonzero(is_row))
    for values in numbers:
        values[:rows] = values[is_row]
    return records.shortened(rows), rows


def _last_of_each_slot(records: Numbers) -> Numbers:
    """The last record of each slot, by ascending slot."""
    slots = records[SLOT]
    order = np.argsort(slots, kind="stable")
    is_last = np.append(slots[order][1:] != slots[order][:-1], True)[: len(slots)]
    return records[:, order[is_last]]
