"""The writer of a local index: its lock, its connection, and what it does at opening, finishing and closing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.closable import Closable
from rrid_edge.errors import (
    ClosedError,
    GalleryBusyError,
    GalleryChangedError,
    GalleryError,
    OutputError,
    UsageError,
    printable,
)
from rrid_edge.gallery.local.column_file import has_columns
from rrid_edge.gallery.local.database import FILE_NAME, connect, refuse_missing, translated
from rrid_edge.gallery.local.facts import Facts, commit, read_facts
from rrid_edge.gallery.local.folder import take_lock
from rrid_edge.gallery.local.maintenance import erase_strays, recover, stored_spec
from rrid_edge.gallery.local.mending import mend_catalogue
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.spec import ModelSpec


class IndexWriter(Closable):
    """Writes one index. Calls from several threads wait for each other.

    Args:
        folder: of the index.
        spec: the model that will be used. A gallery of another one is refused before anything is changed.
        check: look for damaged entries, which reads all of them.

    Raises:
        FingerprintMismatchError: the gallery was indexed with another model.
        GalleryMissingError: the folder has no index.
        GalleryBusyError: another process or object writes the index.
        GalleryError: the index cannot be repaired, or has a newer format.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, spec: ModelSpec | None = None, *, check: bool = True) -> None:
        self._folder, self._path = folder, folder / FILE_NAME
        refuse_missing(self._path)
        self._lock = threading.RLock()
        self._file_lock: int | None = take_lock(folder)
        try:
            self._connection = connect(self._path)
        except BaseException:
            self._release()
            raise
        try:
            with self.writing() as connection:
                if spec is not None:
                    refuse_foreign(printable(folder), stored_spec(connection, folder), spec)
                recover(connection, folder, check=check)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time.

        A failed write closes the writer: its files are then in an unknown state, which the next opening repairs.

        Raises:
            ClosedError: the writer is closed.
            OutputError: the disk refused a write; committed rows are kept.
        """
        with self._lock:
            self.refuse_closed()
            try:
                with translated(self._path):
                    yield self._connection
            except OSError as error:
                self.close()
                raise OutputError(
                    f"{printable(self._folder)}: the index cannot be written ({error.strerror or error}); committed "
                    "rows are kept: free some space and run the command again"
                ) from error
            except (GalleryBusyError, GalleryChangedError):
                raise
            except (GalleryError, OutputError):
                self.close()
                raise

    @contextlib.contextmanager
    def commit(self) -> Iterator[tuple[sqlite3.Connection, Facts]]:
        """One commit: its connection, and the facts, which the body may change."""
        with self.writing() as connection, commit(connection, self._folder) as facts:
            yield connection, facts

    def refuse_closed(self) -> None:
        """Refuse a use after closing.

        Raises:
            ClosedError: the writer is closed.
        """
        if self._file_lock is None:
            raise ClosedError(f"the gallery {printable(self._folder)}")

    def facts(self) -> Facts:
        """The facts of the last commit."""
        with self.writing() as connection:
            return read_facts(connection, self._folder).facts

    def mend(self) -> None:
        """Mend all that a verification of the catalogue finds."""
        with self.writing() as connection:
            mend_catalogue(connection, self._folder)

    def complete_columns(self) -> None:
        """Write the column file of a gallery that has none."""
        if not has_columns(self.facts()):
            with self.commit():  # every commit does
                pass

    def erase_strays(self) -> list[Path]:
        """Erase files of other generations; returns those that readers still use."""
        with self.writing():
            return erase_strays(self._folder, self.facts())

    def _release(self) -> None:
        if self._file_lock is not None:
            os.close(self._file_lock)
            self._file_lock = None

    def close(self) -> None:
        """Close the database and release the lock; safe to call twice."""
        with self._lock:
            if self._file_lock is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
            self._release()


def refuse_reading(folder: Path) -> UsageError:
    """The error of a write to a gallery that was opened for reading."""
    return UsageError(
        f"{printable(folder)}: this gallery is open for reading: expected one that is open for writing; open it with "
        "write=True"
    )
