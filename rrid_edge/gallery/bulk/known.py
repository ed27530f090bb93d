"""What a gallery has of a source, in arrays that all workers of a machine share without copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, NewRow


@dataclass(frozen=True)
class KnownFiles:
    """Files that have a row: 56 bytes each.

    Two paths of one 64-bit hash do no harm: what is compared then is size, time and the digest of the content.

    Attributes:
        hashes: uint64 (N,), of the paths, ascending.
        states: int64 (N, 2), size in bytes and modification time in nanoseconds.
        digests: uint8 (N, 32), SHA-256 of the contents.
    """

    hashes: NDArray[np.uint64]
    states: NDArray[np.int64]
    digests: NDArray[np.uint8]

    @classmethod
    def of(cls, rows: Iterable[NewRow]) -> KnownFiles:
        """The files of some rows. Rows without a path or a digest are left out."""
        files = [row for row in rows if row.path is not None and row.sha256]
        hashes = np.array([_hash(row.path or "") for row in files], np.uint64)
        order = np.argsort(hashes, kind="stable")
        states = np.array([(row.size, row.mtime_ns) for row in files], np.int64).reshape(len(files), 2)
        digests = np.frombuffer(bytes.fromhex("".join(row.sha256 for row in files)), np.uint8).reshape(len(files), 32)
        return cls(hashes[order], states[order], digests[order])

    def find(self, paths: Sequence[str]) -> dict[str, GalleryRow]:
        """Rows by path, with size, time and digest only; unknown paths are left out."""
        wanted = np.array([_hash(path) for path in paths], np.uint64)
        places = np.searchsorted(self.hashes, wanted)
        found = {}
        for path, place, number in zip(paths, places.tolist(), wanted, strict=True):
            if place < len(self.hashes) and self.hashes[place] == number:
                size, mtime_ns = self.states[place].tolist()
                found[path] = GalleryRow(path, self.digests[place].tobytes().hex(), size, mtime_ns)
        return found


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "little")
