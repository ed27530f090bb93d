"""The folder of a local index: the writer's lock, creating the catalogue, and removing the index."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from rrid_edge.errors import GalleryBusyError, OutputError, printable
from rrid_edge.files import sync_path
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.catalogue import FILE_NAME, Catalogue
from rrid_edge.gallery.local.vector_file import VectorFormat
from rrid_edge.model.spec import ModelSpec


def take_lock(folder: Path) -> int:
    """Take the writer's lock. The kernel releases it when the process dies.

    Returns:
        File descriptor of the lock file; closing it releases the lock.

    Raises:
        GalleryBusyError: another process holds the lock.
        OutputError: the lock file cannot be created.
    """
    try:
        descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
            f"{printable(folder)}: another process is writing this index; wait for it, or stop it, and try again"
        ) from error
    return descriptor


def create_index(folder: Path, spec: ModelSpec, dtype: str) -> None:
    """Create an empty index, unless the folder has one.

    Args:
        folder: of the index; made if it does not exist.
        spec: of the model.
        dtype: type of the stored values: ``float16`` or ``float32``.

    Raises:
        GalleryBusyError: another process writes the index.
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        try:
            if not (folder / FILE_NAME).exists():
                vector_format = VectorFormat(spec.dimension, dtype, 0, spec.fingerprint)
                vector_file.create(folder / vector_format.file_name, vector_format)
                _create_catalogue(folder, spec, dtype)
        finally:
            os.close(lock)
    except OSError as error:
        raise OutputError(
            f"{printable(folder)}: the index cannot be written ({error.strerror}); make the folder writable, or name "
            "another location",
            parameter="gallery",
        ) from error


def _create_catalogue(folder: Path, spec: ModelSpec, dtype: str) -> None:
    """Create the catalogue in a temporary folder and rename it: a kill leaves no catalogue or a complete one."""
    partial = folder / "new"
    partial.mkdir(exist_ok=True)
    for stray in partial.iterdir():
        stray.unlink()
    Catalogue.create(partial, spec, dtype)
    sync_path(partial / FILE_NAME)
    (partial / FILE_NAME).replace(folder / FILE_NAME)
    for stray in partial.iterdir():
        stray.unlink()
    partial.rmdir()
    sync_path(folder)


def remove_index(folder: Path) -> None:
    """Remove the files of an index. Other files in its folder stay.

    Raises:
        GalleryBusyError: another process writes the index.
    """
    if not folder.is_dir():
        return
    lock = take_lock(folder)
    try:
        for pattern in (f"{FILE_NAME}*", "vec.*", "cache.*", "writer.lock"):
            for file in folder.glob(pattern):
                file.unlink()
        with contextlib.suppress(OSError):  # the folder holds other files
            folder.rmdir()
    finally:
        os.close(lock)
