"""Opening the SQLite database of a local index, and its errors."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from rrid_edge.errors import GalleryError, GalleryMissingError, OutputError, printable


def connect(path: Path, *, read_only: bool, create: bool = False) -> sqlite3.Connection:
    """Open a database, in WAL mode unless it is read-only or new.

    Args:
        path: the file.
        read_only: open for reading only; a read-only folder is opened as immutable.
        create: make the file if it does not exist.

    Raises:
        GalleryMissingError: the file does not exist.
        GalleryError: the file cannot be opened.
        OutputError: the disk is full.
    """
    if not create and not path.is_file():
        raise GalleryMissingError(f"{printable(path.parent)}: no index here; create one with: rrid-edge index FOLDER")
    mode = "ro" if read_only else "rwc" if create else "rw"
    # The WAL needs a shared-memory file, which a read-only folder cannot hold. Nobody writes there: immutable is safe.
    immutable = "&immutable=1" if read_only and not os.access(path.parent, os.W_OK) else ""
    uri = f"{path.absolute().as_uri()}?mode={mode}{immutable}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        if not read_only:
            # A new file gets no WAL: a checkpoint at closing fails silently on a full disk and leaves an empty file.
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if create else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    return connection


def database_error(path: Path, error: object) -> GalleryError | OutputError:
    """The error of this package for an error of SQLite."""
    if "disk is full" in str(error):
        return OutputError(
            f"{printable(path.parent)}: the index cannot be written (no space left on the disk); committed rows are "
            "kept: free some space and run the command again"
        )
    return GalleryError(
        f"{printable(path)}: the index cannot be read or written ({error}); free the disk or close other programs, or "
        "remove the index folder and index again"
    )
