"""The folder of a local index: the writer's lock, permissions, creating the catalogue, and removing the index."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from pathlib import Path

from rrid_edge.errors import GalleryBusyError, OutputError, RridEdgeError, printable
from rrid_edge.files import sync_path
from rrid_edge.gallery.local import column_file, vector_file
from rrid_edge.gallery.local.database import FILE_NAME, connect, database_error, transaction
from rrid_edge.gallery.local.facts import new_facts, write_facts
from rrid_edge.gallery.local.mapped import erase_file
from rrid_edge.gallery.local.schema import TABLES
from rrid_edge.gallery.local.vector_file import VectorFormat
from rrid_edge.model.spec import ModelSpec

DEFAULT_MODE = 0o700
"""Permissions of a new index: the owner only. Files get the same without execution."""
PARTIAL = "new"
_LOCK = "writer.lock"
_FILES = 0o666


def has_index(folder: Path) -> bool:
    """Whether a folder holds an index. One that this user may not enter counts: opening it names the permission."""
    try:
        return stat.S_ISREG((folder / FILE_NAME).stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def take_lock(folder: Path, mode: int | None = None) -> int:
    """Take the writer's lock. The kernel releases it when the process dies.

    Args:
        folder: of the index.
        mode: permissions of a new index; None takes those of the catalogue.

    Returns:
        File descriptor of the lock file; closing it releases the lock.

    Raises:
        GalleryBusyError: another process or object holds the lock.
        OutputError: the lock file cannot be created.
    """
    path = folder / _LOCK
    try:
        if mode is None:
            catalogue = folder / FILE_NAME
            mode = catalogue.stat().st_mode if catalogue.exists() else DEFAULT_MODE
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode & _FILES)
        if is_new:
            os.fchmod(descriptor, mode & _FILES)
    except OSError as error:
        raise OutputError(
            f"{printable(folder)}: the index cannot be written ({error.strerror}); make it writable, or name another "
            "location",
            parameter="gallery",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise GalleryBusyError(
            f"{printable(folder)}: another process is writing this index, or this process has opened it for writing "
            "before; wait for it, or stop it, and try again"
        ) from error
    return descriptor


def create_index(folder: Path, spec: ModelSpec, dtype: str, mode: int = DEFAULT_MODE) -> None:
    """Create an empty index, unless the folder has one.

    Args:
        folder: of the index; made if it does not exist.
        spec: of the model.
        dtype: type of the stored values: ``float16`` or ``float32``.
        mode: permissions of a new folder; its files get the same without execution.

    Raises:
        GalleryBusyError: another process writes the index.
        OutputError: the folder cannot be written.
    """
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        if (folder / FILE_NAME).exists():
            return
        lock = take_lock(folder, mode)
        try:
            if not (folder / FILE_NAME).exists():
                vector_format = VectorFormat(spec.dimension, dtype, 0, spec.fingerprint)
                vector_file.create(folder / vector_format.file_name, vector_format, mode & _FILES)
                _create_catalogue(folder, spec, dtype, mode & _FILES)
        finally:
            os.close(lock)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            file = folder.parent if isinstance(error, NotADirectoryError) else folder
            raise OutputError(
                f"{printable(file)}: this is a file; expected a folder for the index, or a new name",
                parameter="gallery",
            ) from error
        raise OutputError(
            f"{printable(folder)}: the index cannot be written ({error.strerror}); make the folder writable, or name "
            "another location",
            parameter="gallery",
        ) from error


def _create_catalogue(folder: Path, spec: ModelSpec, dtype: str, mode: int) -> None:
    """Create the catalogue in a temporary folder and rename it: a kill leaves no catalogue or a complete one."""
    partial = folder / PARTIAL
    partial.mkdir(exist_ok=True, mode=0o700)
    for stray in partial.iterdir():
        stray.unlink()
    path = partial / FILE_NAME
    connection = connect(path, create=True)
    try:
        with transaction(connection, write=True):
            for statement in TABLES.split(";"):
                connection.execute(statement)
            write_facts(connection, new_facts(spec, dtype))
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    finally:
        connection.close()
    path.chmod(mode)
    sync_path(path)
    path.replace(folder / FILE_NAME)
    for stray in partial.iterdir():
        stray.unlink()
    partial.rmdir()
    sync_path(folder)


def remove_index(folder: Path, *, if_empty: bool = False) -> None:
    """Remove the files of an index; vectors are overwritten first. Other files in its folder stay.

    Args:
        folder: of the index.
        if_empty: leave an index as it is that has a row, or has forgotten one.

    Raises:
        GalleryBusyError: another process writes the index.
    """
    if not folder.is_dir():
        return
    lock = take_lock(folder)
    try:
        if if_empty and not _is_empty(folder / FILE_NAME):
            return
        (folder / FILE_NAME).unlink(missing_ok=True)
        for pattern in ("vec.*", "cache.*"):
            for file in folder.glob(pattern):
                if column_file.is_part(file):
                    column_file.erase(file)
                elif not erase_file(file):
                    file.unlink()  # readers go on with the file, which the disk frees when they close it
        for pattern in (f"{FILE_NAME}*", _LOCK):
            for file in folder.glob(pattern):
                file.unlink()
        for stray in (folder / PARTIAL).glob("*"):
            stray.unlink()
        with contextlib.suppress(OSError):  # the folder holds other files
            (folder / PARTIAL).rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()
    finally:
        os.close(lock)


def _is_empty(catalogue: Path) -> bool:
    """Whether an index has never had a row and has forgotten none."""
    if not catalogue.exists():
        return True
    try:
        connection = connect(catalogue)
        try:
            found = connection.execute("SELECT EXISTS (SELECT 1 FROM row) + EXISTS (SELECT 1 FROM kept_out)")
            return not found.fetchone()[0]
        finally:
            connection.close()
    except (sqlite3.Error, RridEdgeError):
        return False  # damaged: it may have had some
