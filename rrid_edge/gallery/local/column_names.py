"""The names of cameras and sources that the records of a column file stand for: a file beside it, appended to.

Each name is its length (4 bytes) and its bytes. Its code is its position, from 1 on; code 0 is no name.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.gallery.local.schema import from_bytes, to_bytes
from rrid_edge.gallery.local.vector_file import write_all

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Names:
    """Names by code.

    Attributes:
        texts: the names; the first is None, the unknown camera.
        size_bytes: of the file that holds them.
        crc32: of these bytes.
    """

    texts: tuple[str | None, ...] = (None,)
    size_bytes: int = 0
    crc32: int = 0

    def codes(self) -> dict[str | None, int]:
        """Codes by name."""
        return {text: code for code, text in enumerate(self.texts)}


def path_of_names(columns: Path) -> Path:
    """The file of the names beside a column file."""
    return columns.with_suffix(".names")


def read_names(path: Path, known: Names, size_bytes: int, crc32: int) -> Names | None:
    """All names of a state; None if the file is missing, cut off or damaged, or does not continue the known ones.

    Args:
        path: of the file.
        known: names of an earlier state.
        size_bytes: of the names of the state.
        crc32: of these bytes.
    """
    data = b""
    if known.size_bytes < size_bytes:
        try:
            data = _bytes_of(path, known.size_bytes, size_bytes - known.size_bytes)
        except OSError:
            return None
    found = zlib.crc32(data, known.crc32)
    if known.size_bytes + len(data) != size_bytes or found != crc32:
        return None
    return Names((*known.texts, *_parsed(data)), size_bytes, crc32)


def _bytes_of(path: Path, position: int, count: int) -> bytes:
    """Bytes of an ordinary file; fewer at its end, and none of another kind of file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait
    try:
        state = os.fstat(descriptor)
        is_whole = stat.S_ISREG(state.st_mode) and state.st_size >= position + count
        return os.pread(descriptor, count, position) if is_whole else b""
    finally:
        os.close(descriptor)


def _parsed(data: bytes) -> Iterable[str | None]:
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size + length
        yield from_bytes(data[position - length : position])


def added_names(known: Names, texts: Iterable[str]) -> tuple[Names, bytes]:
    """Names with those that are new, and the bytes to append to the file."""
    codes = known.codes()
    new = [text for text in dict.fromkeys(texts) if text not in codes]
    encoded = [to_bytes(text) or b"" for text in new]
    data = b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
    return Names((*known.texts, *new), known.size_bytes + len(data), zlib.crc32(data, known.crc32)), data


def append_names(path: Path, known: Names, data: bytes, mode: int) -> None:
    """Write bytes after the known names. The file is made with these permissions if it does not exist.

    Raises:
        OSError: the disk refused a write.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    descriptor = os.open(path, flags, mode)
    try:
        os.fchmod(descriptor, mode)
        os.ftruncate(descriptor, known.size_bytes)  # what a commit that was killed has left
        write_all(descriptor, data, known.size_bytes)
    finally:
        os.close(descriptor)
