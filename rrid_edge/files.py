"""Atomic writes (a reader sees the old content or the new one, never a part), temporary files, hashes of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rrid_edge.errors import OutputError, RridEdgeError, printable
from rrid_edge.json_text import json_text
from rrid_edge.stopping import note_result

PRIVATE_MODE = 0o600
"""Mode of files that show people: only their owner reads them."""

_PREFIX, _SUFFIX, _LOCK = ".rrid-edge-", ".partial", ".lock"
_ATTEMPTS = 20
_FOLDER = "{}: this is a folder; give the name of a file to write"
_FULL_BYTES = 1 << 20
"""A disk with less free space is full: a library that failed to write to it failed for this reason."""


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Make a hidden folder for temporary files; it is removed at the end, with all that is in it.

    A killed process leaves its workplace. The next workplace in the same folder removes it: a free advisory lock
    (``flock``) shows that its process is dead. Process numbers would not do, because containers that share a volume
    have their own. Where the file system has no locks, nothing is removed.

    Args:
        folder: an existing folder.

    Yields:
        The new folder, which only its owner can enter.

    Raises:
        OSError: the folder cannot be made.
    """
    remove_left_overs(folder)
    place, lock = _new_workplace(folder)
    try:
        yield place
    finally:
        with contextlib.suppress(OSError):
            _clear(place)
        os.close(lock)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a :func:`workplace` in the folder for temporary files of this machine.

    Raises:
        OutputError: the folder cannot be made.
    """
    parent = Path(tempfile.gettempdir())
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(workplace(parent))
        except OSError as error:
            raise _refusal(parent, error.strerror or str(error)) from error
        yield place


def _new_workplace(folder: Path) -> tuple[Path, int]:
    """A new workplace and the descriptor of its lock."""
    for _ in range(_ATTEMPTS):
        place = Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, folder))
        # Another process may take the folder for a dead one before it is locked, and remove it.
        with contextlib.suppress(FileNotFoundError):
            try:
                lock = os.open(place / _LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except OSError:
                with contextlib.suppress(OSError):
                    place.rmdir()
                raise
            if _try_lock(lock) is not False and os.fstat(lock).st_nlink:
                return place, lock
            os.close(lock)
    raise OSError(errno.EBUSY, "other processes remove each new temporary folder")


def _try_lock(descriptor: int) -> bool | None:
    """Whether the file is now locked by this descriptor; None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_left_overs(folder: Path) -> None:
    """Remove each :func:`workplace` in ``folder`` whose process is dead."""
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        names = [item.name for item in listing if item.name.startswith(_PREFIX) and item.name.endswith(_SUFFIX)]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_dead(folder / name)


def _remove_if_dead(place: Path) -> None:
    facts = place.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        return
    try:
        lock = os.open(place / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        place.rmdir()  # fails unless it is empty
        return
    try:
        if _try_lock(lock):
            _clear(place)
    finally:
        os.close(lock)


def _clear(place: Path) -> None:
    """Remove a workplace. Its lock goes last: if this is interrupted, what is left can still be told to be dead."""
    for item in list(place.iterdir()):
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item, ignore_errors=True)
        elif item.name != _LOCK:
            item.unlink(missing_ok=True)
    (place / _LOCK).unlink(missing_ok=True)
    place.rmdir()


@contextlib.contextmanager
def atomic_output(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Write to a temporary file; on success it is synced and renamed to ``path``, on failure removed.

    Args:
        path: the final path; its folder is created if missing, and removed again on failure.
        mode: permissions of the file from its first byte on, such as :data:`PRIVATE_MODE`. None: the process's default.

    Yields:
        The temporary path: a file of the same name in a :func:`workplace` beside ``path``. Other files that the writer
        makes beside it go with it.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    made = folders_to_make(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(_FOLDER.format(printable(path)))
        with workplace(path.parent) as place:
            partial = place / path.name
            if mode is not None:
                partial.touch(mode=0o600, exist_ok=False)
            with _disk_errors(place):
                yield partial
            partial.chmod(_default_mode(place) if mode is None else mode)  # libraries have their own ideas
            sync_path(partial)
            note_result(path, partial)
            partial.replace(path)
            sync_path(path.parent)
    except BaseException as error:
        remove_empty(made)
        if isinstance(error, OSError):
            raise _refusal(path, error.strerror or str(error)) from error
        raise


def check_output(path: Path) -> None:
    """Refuse a file that :func:`atomic_output` could not write, before long work. Nothing is created.

    Raises:
        OutputError: it is a folder, or its folder cannot be written.
    """
    if path.is_dir():
        raise OutputError(_FOLDER.format(printable(path)))
    check_writable(path.parent, path)


def check_writable(folder: Path, named: Path | None = None) -> None:
    """Refuse a folder that :func:`atomic_output` could not write to. Nothing is created. The message says ``named``.

    Raises:
        OutputError: the folder, or the nearest one above it that exists, is no folder or denies writing.
    """
    nearest = next((place for place in (folder, *folder.absolute().parents) if os.path.lexists(place)), folder)
    if not nearest.is_dir():
        raise _refusal(named or folder, os.strerror(errno.ENOTDIR))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _refusal(named or folder, os.strerror(errno.EACCES))


def folders_to_make(folder: Path) -> list[Path]:
    """The folders that ``folder.mkdir(parents=True)`` would make: ``folder`` itself first, then those above it."""
    return list(itertools.takewhile(lambda place: not os.path.lexists(place), (folder, *folder.parents)))


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, those above after those within. The first one that holds anything ends it.

    Args:
        folders: as :func:`folders_to_make` found them before they were made.
    """
    with contextlib.suppress(OSError):
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()


def _default_mode(place: Path) -> int:
    """Permissions of a new file in ``place``. Reading the process's umask itself would change it for other threads."""
    plain = place / ".plain"
    plain.touch()
    return stat.S_IMODE(plain.stat().st_mode)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn exceptions by which libraries say that the disk refused to write into OSError."""
    try:
        yield
    except (OSError, RridEdgeError):
        raise
    except Exception as error:
        number = _error_number(error)
        if not number and shutil.disk_usage(folder).free < _FULL_BYTES:
            number = errno.ENOSPC
        if not number:
            raise
        raise OSError(number, os.strerror(number)) from error


def _error_number(error: BaseException) -> int:
    """The system's error number behind an exception; 0 if there is none. Libraries in Rust name it in their text."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError):
            return at.errno or 0
        if found := re.search(r"\(os error (\d+)\)", str(at)):
            return int(found[1])
        at = at.__cause__ or at.__context__
    return 0


def _refusal(path: Path, reason: str) -> OutputError:
    return OutputError(
        f"{printable(path)}: cannot be written ({reason}); give a path on a writable file system with free space"
    )


def user_state_folder() -> Path:
    """The folder for what this package remembers for this user: audit logs, reports of errors.

    Raises:
        OutputError: this user has no home folder, and ``XDG_STATE_HOME`` is not set.
    """
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "rrid-edge"
    except RuntimeError as error:
        raise OutputError("this user has no home folder: set HOME or XDG_STATE_HOME to a writable folder") from error


def sync_path(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write a text file atomically, in UTF-8; see :func:`atomic_output`."""
    with atomic_output(path, mode) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object, mode: int | None = None) -> None:
    """Write ``value`` as indented JSON, atomically; see :func:`atomic_output` and :mod:`rrid_edge.json_text`."""
    write_text(path, json_text(value, indent=2) + "\n", mode)


def sha256_of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
