"""A disk cache of compiled models for a faster start. It can be deleted at any time.

An entry is valid for one file, runtime, processor and set of settings, and only if its checksum matches. If the folder
or an entry is unusable, the model is compiled as without a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.files import workplace
from rrid_edge.machine.processor import processor_identity

ENVIRONMENT_VARIABLE = "RRID_EDGE_CACHE"
LARGEST_BYTES = 2 << 30
"""Limit on the size of all entries. The least recently used are removed first."""
SMALLEST_MODEL_BYTES = 8 << 20
"""Smaller models are not cached: they compile quickly."""
_SETTLED_S = 3.0
_HEADER_BYTES = 4096  # keeps the content page-aligned
_MAGIC = b"rrid-edge compiled model 1\n"
_FACTS = struct.Struct("<32sQQ")  # key, length, sum of words


def cache_folder() -> Path | None:
    """``$RRID_EDGE_CACHE``, else ``$XDG_CACHE_HOME/rrid-edge``; None if the variable is ``off``."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named == "off":
        return None
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "rrid-edge"
    except RuntimeError:  # no home
        return None


class CompiledCache:
    """Entries in one folder.

    Args:
        folder: created with the first entry.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, model: Path, *settings: object) -> bytes | None:
        """Key of the entry for a model file and settings, 32 bytes; None if the file should not be cached.

        The file is identified by path, device, inode, size, mtime and ctime.
        """
        # Hashing 165 MB would cost more than half of the time saved. A file changed within seconds is not cached: it
        # could change again with the same time stamp.
        try:
            facts = model.stat()
        except OSError:
            return None
        if facts.st_size < SMALLEST_MODEL_BYTES:
            return None
        if time.time() - max(facts.st_mtime, facts.st_ctime) < _SETTLED_S:
            return None
        file = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        told = json.dumps([str(model.resolve()), file, processor_identity(), [str(item) for item in settings]])
        return hashlib.sha256(told.encode("utf-8", "surrogateescape")).digest()

    def load(self, key: bytes) -> NDArray[np.uint8] | None:
        """Content of an entry, mapped privately; None if it is missing, damaged or owned by another user."""
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                owner = os.fstat(stream.fileno())
                header = stream.read(_HEADER_BYTES)
                whole = len(header) == _HEADER_BYTES and header.startswith(_MAGIC)
                if owner.st_uid != os.geteuid() or owner.st_mode & 0o022 or not whole:
                    return None
                stored_key, length, total = _FACTS.unpack_from(header, len(_MAGIC))
                fits = owner.st_size == _HEADER_BYTES + length and 0 < length <= LARGEST_BYTES
                if stored_key != key or not fits:
                    return None
                # Copy on write, because the runtime requires writable memory.
                content: NDArray[np.uint8] = np.memmap(stream, np.uint8, "c", _HEADER_BYTES, (length,))
        except (OSError, ValueError):  # ValueError: the file was cut off meanwhile
            return None
        if _sum_of_words(content) != total:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # marks the entry as recently used
        return content

    def keep(self, key: bytes, content: Callable[[], bytes | memoryview]) -> None:
        """Write an entry if the folder is writable; removes older entries to stay within :data:`LARGEST_BYTES`."""
        # Not synced: after a power failure the checksum fails and the model is compiled again.
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            data = np.frombuffer(content(), np.uint8)
            if len(data) + _HEADER_BYTES > LARGEST_BYTES:
                return
            self._make_room(len(data) + _HEADER_BYTES)
            header = (_MAGIC + _FACTS.pack(key, len(data), _sum_of_words(data))).ljust(_HEADER_BYTES, b"\0")
            with workplace(self.folder) as place:
                descriptor = os.open(place / "entry", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(header)
                    stream.write(data.data)
                (place / "entry").replace(self._path(key))

    def drop(self, key: bytes) -> None:
        """Remove an unusable entry."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: bytes) -> Path:
        return self.folder / f"compiled-{key.hex()[:32]}.blob"

    def _make_room(self, size_bytes: int) -> None:
        """Remove the least recently used entries, until ``size_bytes`` more fit."""
        entries = []
        for path in self.folder.glob("compiled-*.blob"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                entries.append((facts.st_mtime, facts.st_size, path))
        used = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if used + size_bytes <= LARGEST_BYTES:
                return
            path.unlink(missing_ok=True)
            used -= size


def _sum_of_words(content: NDArray[np.uint8]) -> int:
    """Sum of the 64-bit words modulo 2^64, padded with zeros. 165 MB take 0.02 s; a CRC-32 takes 0.07 s."""
    whole = len(content) // 8 * 8
    rest = int.from_bytes(content[whole:].tobytes(), "little")
    return (int(np.add.reduce(content[:whole].view(np.uint64))) + rest) % (1 << 64)
