"""Changes of labels in the tables of a people file; each function runs within its caller's commit."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from rrid_edge.gallery.people_file import name_bytes
from rrid_edge.gallery.people_traces import delete_unused
from rrid_edge.people.records import Answer, Change, Facts, KeptChange, Node, PersonRef

_COLUMNS = "id, kind, before_number, before_name, after_number, after_name, time, facts"


def text_of(name: bytes) -> str:
    """A name of the file as text."""
    return name.decode("utf-8", "surrogateescape")


def known_people(connection: sqlite3.Connection) -> dict[str, int]:
    """Numbers by name, also of people in changes that are not finished."""
    pending = "FROM change WHERE pending = 1"
    found = connection.execute(
        f"SELECT before_name, before_number {pending} UNION SELECT after_name, after_number {pending}"
    ).fetchall()
    found += connection.execute("SELECT name, number FROM person").fetchall()
    return {text_of(name): number for name, number in found if name is not None}


def next_number(connection: sqlite3.Connection) -> int:
    """A number that no person ever had."""
    number = int(connection.execute("SELECT value FROM info WHERE key = 'next_person'").fetchone()[0])
    connection.execute("UPDATE info SET value = value + 1 WHERE key = 'next_person'")
    return number


def insert(connection: sqlite3.Connection, change: Change, now: int) -> int:
    """Write a change that is not finished; returns its id."""
    people = [part for ref in (change.before, change.after) for part in _record(ref)]
    facts = msgspec.json.encode(change.facts).decode()
    columns = "kind, pending, before_number, before_name, after_number, after_name, time, facts"
    added = connection.execute(
        f"INSERT INTO change ({columns}) VALUES (?, 1, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        (change.kind, *people, now, facts),
    )
    identifier = int(added.lastrowid or 0)
    connection.executemany("INSERT INTO change_crop VALUES (?, ?)", [(identifier, crop) for crop in change.crops])
    return identifier


def _record(ref: PersonRef | None) -> tuple[int | None, bytes | None]:
    return (None, None) if ref is None else (ref.number, name_bytes(ref.name))


def pending(connection: sqlite3.Connection) -> list[Change]:
    """Changes that are not finished, the oldest first."""
    query = f"SELECT {_COLUMNS} FROM change WHERE pending = 1 ORDER BY id"  # noqa: S608 - constants
    return [_change(connection, record) for record in connection.execute(query).fetchall()]


def _change(connection: sqlite3.Connection, record: tuple[Any, ...]) -> Change:
    identifier, kind, before_number, before_name, after_number, after_name, time, facts = record
    before, after = _ref(before_number, before_name), _ref(after_number, after_name)
    return Change(
        kind, _crops(connection, identifier), before, after, msgspec.json.decode(facts, type=Facts), identifier, time
    )


def _ref(number: int | None, name: bytes | None) -> PersonRef | None:
    return None if number is None or name is None else PersonRef(number, text_of(name))


def _crops(connection: sqlite3.Connection, change: int) -> tuple[int, ...]:
    found = connection.execute("SELECT crop FROM change_crop WHERE change = ? ORDER BY crop", (change,))
    return tuple(crop for (crop,) in found)


def finish(connection: sqlite3.Connection, identifier: int, now: int) -> None:
    """Make true what a change says. Merges and splits stay, so that they can be undone; others are deleted."""
    query = f"SELECT {_COLUMNS} FROM change WHERE id = ? AND pending = 1"  # noqa: S608 - constants
    found = connection.execute(query, (identifier,)).fetchone()
    if found is None:
        return  # another process has finished it
    change = _change(connection, found)
    facts = change.facts
    if change.before is not None and facts.retired:
        connection.execute("DELETE FROM person WHERE number = ?", (change.before.number,))
    if change.after is not None:
        name = name_bytes(change.after.name)
        connection.execute("DELETE FROM person WHERE name = ? OR number = ?", (name, change.after.number))
        connection.execute("INSERT INTO person VALUES (?, ?)", (change.after.number, name))
    if change.kind in ("merge", "split"):
        _disown(connection, change)
        connection.executemany(
            "UPDATE verdict SET void = ? WHERE id = ?", [(identifier, verdict) for verdict in facts.void]
        )
        # A name is kept only where nothing else has it: a person that ended must get hers back.
        connection.execute(
            "UPDATE change SET pending = 0, after_name = NULL, facts = '{}', "
            "before_name = CASE WHEN ? THEN before_name END WHERE id = ?",
            (facts.retired, identifier),
        )
        return
    if facts.undoes is not None:
        connection.execute("UPDATE verdict SET void = NULL WHERE void = ?", (facts.undoes,))
        delete(connection, facts.undoes)
    connection.executemany("DELETE FROM verdict WHERE id = ?", [(verdict,) for verdict in facts.void])
    if facts.pair is not None and facts.answer is not None:
        put_verdict(connection, facts.pair, facts.answer, now)
    _give(connection, change)
    delete(connection, identifier)


def _disown(connection: sqlite3.Connection, change: Change) -> None:
    """A label that a merge or split wrote is no gift of an earlier verdict, even if it is the same label."""
    if change.after is not None:
        gifts = [(crop, change.after.number) for crop in change.crops]
        connection.executemany("DELETE FROM given WHERE crop = ? AND person = ?", gifts)


def _give(connection: sqlite3.Connection, change: Change) -> None:
    """Note labels that a verdict gave. A label that was written otherwise is nobody's gift any more."""
    connection.executemany("DELETE FROM given WHERE crop = ?", [(crop,) for crop in change.crops])
    if change.facts.is_given and change.after is not None:
        number = change.after.number
        connection.executemany("INSERT INTO given VALUES (?, ?)", [(crop, number) for crop in change.crops])


def put_verdict(connection: sqlite3.Connection, pair: tuple[Node, Node], answer: Answer, now: int) -> None:
    """Record a verdict in place of an earlier one of the pair."""
    connection.execute(
        "INSERT OR REPLACE INTO verdict (first, second, verdict, time) VALUES (?, ?, ?, ?)", (*pair, answer, now)
    )


def delete(connection: sqlite3.Connection, identifier: int) -> None:
    """Delete a change with its crops."""
    connection.execute("DELETE FROM change_crop WHERE change = ?", (identifier,))
    connection.execute("DELETE FROM change WHERE id = ?", (identifier,))
    delete_unused(connection)


def kept(connection: sqlite3.Connection, person: int) -> list[KeptChange]:
    """Merges into a person and splits from her, the newest first."""
    query = (
        f"SELECT {_COLUMNS} FROM change WHERE pending = 0 AND "  # noqa: S608 - constants
        "((kind = 'merge' AND after_number = ?) OR (kind = 'split' AND before_number = ?)) ORDER BY id DESC"
    )
    changes = []
    for identifier, kind, before, before_name, after, _, time, _ in connection.execute(
        query, (person, person)
    ).fetchall():
        other = before if kind == "merge" else after
        name = before_name if kind == "merge" else _name_of(connection, after)
        crops = _crops(connection, identifier)
        shown, retired = (None if text is None else text_of(text) for text in (name, before_name))
        changes.append(KeptChange(identifier, kind, person, other, shown, crops, time, retired))
    return changes


def _name_of(connection: sqlite3.Connection, number: int | None) -> bytes | None:
    found = connection.execute("SELECT name FROM person WHERE number = ?", (number,)).fetchone()
    return None if found is None else found[0]
