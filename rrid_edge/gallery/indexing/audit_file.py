"""Appending lines to a log that several processes write, and that never grows beyond a bound.

The log is rotated by size: ``audit.jsonl`` becomes ``audit.jsonl.1``, that becomes ``audit.jsonl.2``, and so on. Every
writer locks the file (``flock``) while it appends, and looks whether the name still belongs to the file that it locked.
So a line is never split, never lost in a rotation, and two writers never rotate at once.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LARGEST_BYTES = 10 << 20
"""A log that would become larger is rotated first."""
OLD_FILES = 5
"""Rotated logs that are kept: ``.1`` is the newest."""
_LOCK_WAIT_S = 5.0


def append_line(file: Path, line: bytes, mode: int, *, durable: bool = True) -> None:
    """Append ``line``, which ends with a newline, as a whole or not at all.

    Args:
        file: the log. It is made if there is none; its folder must exist.
        line: what to append.
        mode: permissions of a new log, whatever the umask says.
        durable: wait until the line is on the disk. Otherwise the line survives a kill, but not a power failure.

    Raises:
        OSError: the line cannot be written, or another process has held the lock for 5 s.
    """
    while True:
        with _locked(file, mode) as descriptor:
            size = os.fstat(descriptor).st_size
            if not size or size + len(line) <= LARGEST_BYTES or not _rotate(file):
                return _write(descriptor, line, size, durable=durable)


@contextmanager
def _locked(file: Path, mode: int) -> Iterator[int]:
    """The log, open for appending and locked. A log that was rotated meanwhile is opened again."""
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        descriptor = _open(file, mode)
        try:
            _lock(descriptor, until)
            if _is_named(descriptor, file):
                yield descriptor
                return
        finally:
            os.close(descriptor)  # gives the lock back


def _lock(descriptor: int, until: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.001)


def _open(file: Path, mode: int) -> int:
    is_new = not file.exists()
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    if is_new:
        os.fchmod(descriptor, mode)  # the umask of a shared gallery must not narrow it
    return descriptor


def _is_named(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _rotate(file: Path) -> bool:
    """Move the logs on by one; False if the folder lets nobody rename, and the log has to grow."""
    names = [file, *(file.with_name(f"{file.name}.{number}") for number in range(1, OLD_FILES + 1))]
    try:
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with suppress(FileNotFoundError):
                newer.replace(older)
    except OSError:
        return False
    return True


def _write(descriptor: int, line: bytes, size: int, *, durable: bool) -> None:
    """Write the line in one call. After a power failure the last line may lack its end: it gets one first."""
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    written = os.write(descriptor, line)
    if written != len(line):
        os.ftruncate(descriptor, size)
        raise OSError(28, os.strerror(28))  # ENOSPC: the only reason why a file takes a part
    if durable:
        os.fsync(descriptor)
