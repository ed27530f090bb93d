"""The people file of a gallery: where it lies, its tables, and how traces of forgotten crops leave it.

``rrid-edge serve`` keeps in it what the gallery's rows cannot tell: ids of people, merges that can be undone, verdicts,
kept queries. :mod:`rrid_edge.people` reads and writes it. Stores erase traces when they forget, so this module is below
them. A gallery in a folder has ``people.sqlite`` in its index folder. For a gallery on a server, and for a folder that
this user may not write, the file lies in the user's state folder, under a digest of the location.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.errors import GalleryBusyError, GalleryError, OutputError, printable
from rrid_edge.files import PRIVATE_MODE, user_state_folder

FILE_NAME = "people.sqlite"
FORMAT = 1
_BUSY_S = 5.0
"""Seconds that a connection waits for another process."""

TABLES = """
CREATE TABLE info (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE person (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE crop (id INTEGER PRIMARY KEY, mark INTEGER NOT NULL);
CREATE TABLE change (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, pending INTEGER NOT NULL,
    before_number INTEGER, before_name BLOB, after_number INTEGER, after_name BLOB,
    time INTEGER NOT NULL, facts TEXT NOT NULL
);
CREATE TABLE change_crop (change INTEGER NOT NULL, crop INTEGER NOT NULL, PRIMARY KEY (change, crop)) WITHOUT ROWID;
CREATE INDEX crop_change ON change_crop (crop);
CREATE TABLE verdict (
    id INTEGER PRIMARY KEY AUTOINCREMENT, first NOT NULL, second NOT NULL, verdict TEXT NOT NULL,
    time INTEGER NOT NULL, void INTEGER, UNIQUE (first, second)
);
CREATE INDEX second_verdict ON verdict (second);
CREATE TABLE given (crop INTEGER PRIMARY KEY, person INTEGER NOT NULL);
CREATE TABLE query (
    id TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, descriptor BLOB NOT NULL, thumbnail BLOB NOT NULL,
    images INTEGER NOT NULL, time INTEGER NOT NULL
);
CREATE TABLE pushed (key BLOB PRIMARY KEY, digest BLOB NOT NULL, crop INTEGER NOT NULL, time INTEGER NOT NULL);
"""
"""``crop`` names every crop that another table names, with a mark of its content. Names are bytes, as in rows.

``change`` holds merges and splits, and changes of labels that are not finished (``pending``). In ``verdict``, a crop is
its id and a query its text. ``void`` is the change that set the verdict aside. ``given`` are labels that verdicts gave.
"""


def state_file(location: object) -> Path:
    """The people file of a gallery in this user's state folder.

    Raises:
        OutputError: this user has no home folder.
    """
    text = str(location.resolve()) if isinstance(location, Path) else str(location)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return user_state_folder() / f"people-{digest[:32]}.sqlite"


def people_files(location: object) -> list[Path]:
    """The people files of a gallery that exist, as far as this user may know.

    Args:
        location: folder of the index, or an address.
    """
    files = [location / FILE_NAME] if isinstance(location, Path) else []
    with contextlib.suppress(OutputError):
        files.append(state_file(location))
    return [file for file in files if os.path.lexists(file)]


def people_file(location: object) -> Path:
    """The people file that this user reads and writes; it may not exist yet.

    Args:
        location: folder of the index, or an address.

    Raises:
        OutputError: the folder is not writable, and this user has no home folder.
    """
    if isinstance(location, Path):
        file = location / FILE_NAME
        may_write = os.access(file, os.R_OK | os.W_OK) if file.exists() else True
        if may_write and os.access(location, os.W_OK | os.X_OK):
            return file
    return state_file(location)


def open_file(path: Path) -> sqlite3.Connection:
    """Open a people file for writing, or make it. Only its owner may read it.

    The connection is in autocommit mode, and other threads may use it.

    Raises:
        GalleryError: the file is damaged, or a newer release made it.
        GalleryBusyError: another process holds it.
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE))
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    with translated(path):
        connection = connect(path)
        try:
            _make_tables(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def connect(path: Path | None) -> sqlite3.Connection:
    """A connection to an existing file, or to a database in memory (None) without tables."""
    name = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Make all tables of an empty database."""
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0]:
            return  # another process was faster
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO info VALUES ('next_person', 1)")
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > FORMAT:
        raise GalleryError(
            f"{printable(path)}: people file of format {found}, expected {FORMAT}: made by a newer release; update "
            "rrid-edge"
        )
    if found < FORMAT:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise damaged(path, "it is another program's database")
        make_tables(connection)
    problem = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if problem != "ok":
        raise damaged(path, problem)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One commit; an exception in the body rolls back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Raise errors of SQLite as errors of this package."""
    try:
        yield
    except sqlite3.Error as error:
        text, where = str(error), path or Path("memory")
        if "locked" in text or "busy" in text:
            raise GalleryBusyError(
                f"{printable(where)}: another program kept this file busy for {_BUSY_S:.0f} s; nothing is damaged: try "
                "again"
            ) from error
        if any(sign in text for sign in ("full", "readonly", "unable to open", "disk I/O")):
            raise _refusal(where, text) from error
        raise damaged(where, text) from error


def damaged(path: Path, reason: str) -> GalleryError:
    """The error of a file that is no people file."""
    return GalleryError(
        f"{printable(path)}: damaged people file ({' '.join(reason.split())[:160]}); restore it from a backup, or "
        "delete it: names stay in the gallery, verdicts and merges are lost"
    )


def _refusal(path: Path, reason: str) -> OutputError:
    return OutputError(
        f"{printable(path)}: the people file cannot be written ({reason}); make its folder writable and free some space"
    )


def name_bytes(name: str) -> bytes:
    """A name as the file stores it. Labels may hold bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape")
