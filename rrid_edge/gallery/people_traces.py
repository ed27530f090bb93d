"""What leaves the people file of a gallery: traces of forgotten crops, or everything with the gallery."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Set

from rrid_edge.errors import RridEdgeError, printable
from rrid_edge.gallery.people_file import name_bytes, open_file, people_files, transaction, translated

_EMPTIED = ("person", "crop", "change", "change_crop", "verdict", "given", "query", "pushed")
_PARTS = ("", "-wal", "-shm", "-journal")


def erase_traces(location: object, ids: Iterable[int], labels: Callable[[], Set[str]]) -> tuple[str, ...]:
    """Erase all that the people files of a gallery hold of forgotten crops, and of people without crops.

    Args:
        location: folder of the index, or an address.
        ids: of the crops.
        labels: returns the labels that live rows still have; called only if there is a file.

    Returns:
        Where something of them is left, in lines for users.
    """
    lines, wanted = [], list(ids)
    for path in people_files(location) if wanted else ():
        try:
            with translated(path), contextlib.closing(open_file(path)) as connection:
                erase(connection, wanted, labels())
                is_empty = empty_log(connection)
        except (RridEdgeError, OSError) as error:
            lines.append(f"{printable(path)}: names, verdicts and queries of forgotten crops were not erased ({error})")
            continue
        if not is_empty:
            lines.append(
                f"{printable(path)}-wal: a reader still holds an older state, so this log still holds erased entries; "
                "the next change empties it"
            )
    return tuple(lines)


def erase(connection: sqlite3.Connection, ids: list[int], labels: Set[str]) -> None:
    """Erase all traces of crops that are gone, and of people without crops, in one commit.

    A query that was told to show one of the crops is erased too, with its verdicts.

    Args:
        connection: to the file.
        ids: of the crops.
        labels: that live rows still have.
    """
    alive = {name_bytes(label) for label in labels}
    ones = [(identifier,) for identifier in ids]
    with transaction(connection):
        shown = "SELECT first FROM verdict WHERE second = ? AND verdict = 'same' AND typeof(first) = 'text'"
        queries = {query for one in ones for query in connection.execute(shown, one)}
        connection.executemany("DELETE FROM query WHERE id = ?", queries)
        connection.executemany("DELETE FROM verdict WHERE first = ?", [*queries, *ones])
        connection.executemany("DELETE FROM verdict WHERE second = ?", ones)
        connection.executemany("DELETE FROM change_crop WHERE crop = ?", ones)
        connection.executemany("DELETE FROM given WHERE crop = ?", ones)
        connection.executemany("DELETE FROM pushed WHERE crop = ?", ones)
        connection.executemany("DELETE FROM crop WHERE id = ?", ones)
        people = connection.execute("SELECT number, name FROM person").fetchall()
        gone = [(number,) for number, name in people if name not in alive]
        connection.executemany("DELETE FROM person WHERE number = ?", gone)
        connection.executemany("DELETE FROM given WHERE person = ?", gone)
        connection.executemany("DELETE FROM change WHERE before_number = ?", gone)
        connection.executemany("DELETE FROM change WHERE after_number = ?", gone)
        delete_unused(connection)


def delete_unused(connection: sqlite3.Connection) -> None:
    """Delete changes without crops, crops of deleted changes, and verdicts that deleted changes set aside."""
    connection.execute("DELETE FROM change WHERE id NOT IN (SELECT change FROM change_crop)")
    connection.execute("DELETE FROM change_crop WHERE change NOT IN (SELECT id FROM change)")
    connection.execute("DELETE FROM verdict WHERE void IS NOT NULL AND void NOT IN (SELECT id FROM change)")


def empty_log(connection: sqlite3.Connection) -> bool:
    """Empty the log, which holds old pages; returns whether no reader kept it."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def reset_people(location: object) -> None:
    """Empty the people files of a gallery whose rows get new ids. Ids of people are not used again.

    Raises:
        GalleryError: a file is damaged.
        OutputError: a file cannot be written.
    """
    for path in people_files(location):
        with translated(path), contextlib.closing(open_file(path)) as connection:
            _empty(connection)


def _empty(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for table in _EMPTIED:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
    empty_log(connection)


def remove_people(location: object) -> None:
    """Remove the people files of a gallery that was removed; their content is overwritten first."""
    for path in people_files(location):
        with contextlib.suppress(RridEdgeError, sqlite3.Error), contextlib.closing(open_file(path)) as connection:
            _empty(connection)
        for part in _PARTS:
            path.with_name(path.name + part).unlink(missing_ok=True)
