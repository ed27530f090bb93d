"""Keeping the column file in step: what each commit appends to it, and when it is written again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rrid_edge.gallery.local import column_file
from rrid_edge.gallery.local.column_file import FACT, ColumnFacts, Records, gone_records, path_of, paths_of, records_of
from rrid_edge.gallery.local.column_names import Names, added_names, append_names, path_of_names, read_names
from rrid_edge.gallery.local.database import file_mode
from rrid_edge.gallery.local.schema import MODULUS, Columns, read_columns

_MOST_RECORDS_PER_ROW = 2
_FEW_RECORDS = 1000
"""The file is written again if it has more records than two per live row, and these."""


class ChangingFacts(dict[str, str]):
    """The facts of a commit, and the rows that it has changed so far.

    Attributes:
        changes: in their order: columns of rows that became live, and of live rows that are gone or were replaced.
    """

    def __init__(self, facts: Mapping[str, str]) -> None:
        super().__init__(facts)
        self.changes: list[tuple[Columns, Columns]] = []

    def change_of_total(self) -> int:
        """What the changes add to the checksum over the live rows."""
        return sum(added.total - removed.total for added, removed in self.changes)


def follow(folder: Path, connection: sqlite3.Connection, before: Mapping[str, str], facts: ChangingFacts) -> None:
    """Bring the column file in step with a commit, and write down its facts.

    A disk that refuses the file does not end the commit: searches then read the catalogue.

    Args:
        folder: of the index.
        connection: in the commit, after its changes.
        before: facts before the commit.
        facts: of the commit; changed in place.
    """
    known = ColumnFacts.of(before) if facts.get(FACT) else None
    total = str((int(before["total"]) + facts.change_of_total()) % MODULUS)
    is_told = total == facts["total"] and before["generation"] == facts["generation"]
    with contextlib.suppress(OSError):
        found = _appended(folder, connection, known, facts) if known is not None and is_told else None
        found = _written(folder, connection, facts) if found is None else found
        facts[FACT] = "" if found is None else found.to_json()
        return
    facts[FACT] = ""


def erase_replaced(folder: Path, before: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Erase the file of the state before a commit if the commit has written another one."""
    kept = paths_of(folder, facts)
    for path in paths_of(folder, before):
        if path not in kept:
            with contextlib.suppress(OSError):  # the next opening for writing erases it
                column_file.erase(path)


def _appended(
    folder: Path, connection: sqlite3.Connection, known: ColumnFacts, facts: ChangingFacts
) -> ColumnFacts | None:
    """The facts after the changes were appended; None if the file must be written again."""
    if not facts.changes:
        return known
    path = path_of(folder, int(facts["generation"]), known.number)
    old = read_names(path_of_names(path), Names(), known.names_bytes, known.names_crc32)
    if old is None:
        return None
    names, data = added_names(old, _texts(facts.changes))
    codes = names.codes()
    records = np.concatenate([_records_of_change(added, removed, codes) for added, removed in facts.changes])
    count = known.records + len(records)
    if count > _MOST_RECORDS_PER_ROW * int(facts["rows"]) + _FEW_RECORDS:
        return None
    try:
        crc32 = column_file.append(path, known, records)
    except FileNotFoundError:
        return None
    if crc32 is None:
        return None
    if data:
        append_names(path_of_names(path), old, data, file_mode(folder))
    return ColumnFacts(known.number, count, crc32, names.size_bytes, names.crc32, facts["total"])


def _records_of_change(added: Columns, removed: Columns, codes: Mapping[str | None, int]) -> Records:
    """The records that tell of a change. A row that keeps its columns, such as one that got a label, has none."""
    new, gone = records_of(added, codes), gone_records(np.setdiff1d(removed.slots, added.slots))
    if len(removed.slots) and len(added.slots):
        old = set(records_of(removed, codes).tolist())
        new = new[[record not in old for record in new.tolist()]]
    return np.concatenate([gone, new])


def _written(folder: Path, connection: sqlite3.Connection, facts: Mapping[str, str]) -> ColumnFacts | None:
    """The facts of a new file with all live rows; None for an empty gallery, and for a catalogue that is damaged."""
    try:
        columns = read_columns(connection)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return None
    if str(columns.total) != facts["total"] or not len(columns.slots):
        return None
    number = _free_number(folder, int(facts["generation"]))
    path, mode = path_of(folder, int(facts["generation"]), number), file_mode(folder)
    names, data = added_names(Names(), _texts([(columns, columns)]))
    records = records_of(columns, names.codes())
    crc32 = column_file.create(path, records, mode)
    append_names(path_of_names(path), Names(), data, mode)
    return ColumnFacts(number, len(records), crc32, names.size_bytes, names.crc32, facts["total"])


def _free_number(folder: Path, generation: int) -> int:
    """The first number that has no files: readers may still use the last ones."""
    number = 0
    while True:
        path = path_of(folder, generation, number)
        if not os.path.lexists(path) and not os.path.lexists(path_of_names(path)):
            return number
        number += 1


def _texts(changes: Iterable[tuple[Columns, Columns]]) -> list[str]:
    """The names of all cameras and sources of some changes, each once."""
    sides = [columns for change in changes for columns in change]
    names = dict.fromkeys(name for side in sides for name in (*side.camera_names, *side.source_names))
    return [name for name in names if name is not None]
