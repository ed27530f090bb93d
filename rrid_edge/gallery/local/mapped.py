"""The memory-mapped vector file of one committed state, and the locks that keep it while it is read."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rrid_edge.errors import GalleryError, printable
from rrid_edge.gallery.local.vector_file import (
    HEADER_BYTES,
    VectorFormat,
    check_header,
    check_kind,
    check_length,
    write_all,
)

_ZEROS_BYTES = 1 << 22


class MappedVectors:
    """The rows of a vector file, memory-mapped. Readers hold a shared lock, so that no compaction erases it meanwhile.

    Args:
        path: the file.
        form: its header.
        slots: number of rows.

    Attributes:
        stored: the rows: (slots, dimension) in the stored type.
        identity: of the file: equal for later states of the same file, which hold the same rows and more.

    Raises:
        GalleryError: the header differs, or the file is too short.
        FileNotFoundError: a compaction has replaced the file: read the catalogue again.
    """

    def __init__(self, path: Path, form: VectorFormat, slots: int) -> None:
        self._lock = threading.Lock()
        self._users = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
        except PermissionError as error:
            raise GalleryError(
                f"{printable(path)}: this user may not read this file: expected read permission for all files of an "
                "index; ask its owner"
            ) from error
        weakref.finalize(self, os.close, self._descriptor)
        facts = os.fstat(self._descriptor)
        check_kind(facts, path)
        self.identity = (facts.st_dev, facts.st_ino, form)
        self.stored: NDArray[np.generic] = np.empty((0, form.dimension), form.dtype)
        if not self._hold():  # a compaction is erasing the file
            raise FileNotFoundError(path)
        try:
            check_header(os.pread(self._descriptor, HEADER_BYTES, 0), path, form)
            check_length(os.fstat(self._descriptor).st_size, path, form, slots)
            if slots:
                stored: DTypeLike = np.dtype(form.dtype).newbyteorder("<")
                shape = (slots, form.dimension)
                with os.fdopen(os.dup(self._descriptor), "rb") as stream:  # not by path, which may be another file now
                    self.stored = np.memmap(stream, dtype=stored, mode="r", offset=HEADER_BYTES, shape=shape)
        finally:
            self._release()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep the file while it is read; yields False if a compaction has replaced it."""
        holds = self._hold()
        try:
            yield holds
        finally:
            if holds:
                self._release()

    def _hold(self) -> bool:
        with self._lock:
            if not self._users:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                if os.fstat(self._descriptor).st_nlink == 0:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                    return False
            self._users += 1
            return True

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def erase_file(path: Path, *, guard: Path | None = None) -> bool:
    """Overwrite a file with zeros and delete it, unless somebody reads it.

    Args:
        path: the file.
        guard: the file that its readers lock; None means the file itself.

    Returns:
        Whether the file is gone.
    """
    if not path.exists():
        return True
    lock = os.open(guard or path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _overwrite(path)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        for position in range(0, size_bytes, _ZEROS_BYTES):
            write_all(descriptor, bytes(min(_ZEROS_BYTES, size_bytes - position)), position)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
