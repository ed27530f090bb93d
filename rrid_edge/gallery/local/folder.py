"""The folder of a local index: the lock of its one writer, the making of its catalogue, and its removal."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from rrid_edge.errors import GalleryBusyError, OutputError, printable
from rrid_edge.files import sync_path
from rrid_edge.gallery.local.catalogue import FILE_NAME, Catalogue
from rrid_edge.model.spec import ModelSpec


def take_lock(folder: Path) -> int:
    """The writer's lock, an open file; freed by the kernel when its process dies.

    Raises:
        GalleryBusyError: another process writes.
        OutputError: the lock file cannot be made.
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


def create_catalogue(folder: Path, spec: ModelSpec, dtype: str) -> None:
    """Make the catalogue beside its final path and move it there whole: a kill leaves none or a good one."""
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
    """Remove an index, and nothing else that may lie in its folder.

    Raises:
        GalleryBusyError: another process is writing it.
    """
    if not folder.is_dir():
        return
    lock = take_lock(folder)
    try:
        for pattern in (f"{FILE_NAME}*", "vec.*", "cache.*", "writer.lock"):
            for file in folder.glob(pattern):
                file.unlink()
        with contextlib.suppress(OSError):  # something of the user's lies in it
            folder.rmdir()
    finally:
        os.close(lock)
