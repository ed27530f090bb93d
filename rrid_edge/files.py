"""Atomic writes (a reader sees the old content or the new one, never a part) and hashes of files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.errors import OutputError, printable

PRIVATE_MODE = 0o600
"""Mode of files that show people: only their owner reads them."""


@contextlib.contextmanager
def atomic_output(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Write to a temporary file; on success it is synced and renamed to ``path``, on failure removed.

    Args:
        path: the final path; its folder is created if missing.
        mode: permissions of the file from its first byte on, such as :data:`PRIVATE_MODE`. None: the process's default.

    Yields:
        The temporary path, in the same folder and with the same suffix.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(f"{printable(path)}: this is a folder; give the name of a file to write")
        if mode is not None:
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600, exist_ok=False)
        yield partial
        if mode is not None:
            partial.chmod(mode)
        sync_path(partial)
        partial.replace(path)
        sync_path(path.parent)
    except OSError as error:
        raise OutputError(
            f"{printable(path)}: cannot be written ({error.strerror or error}); give a path on a writable file system "
            "with free space"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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
    """Write ``value`` as indented JSON, atomically; see :func:`atomic_output`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", mode)


def sha256_of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
