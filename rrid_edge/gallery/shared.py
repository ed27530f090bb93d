"""What both stores of a gallery need: row checksums, exact scores, and constants of the format."""

from __future__ import annotations

import os
import zlib

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import FingerprintMismatchError
from rrid_edge.gallery.base import NewRow
from rrid_edge.model.spec import ModelSpec

DTYPES = ("float16", "float32")
"""How vectors may be stored."""
UNKNOWN = -(2**62)
"""Stands for a camera or a time that is not known."""
ROUNDING = np.float32(4e-6)
"""How far a float32 product of unit vectors may lie from the exact one, whatever the order of its sums."""


def refuse_foreign(where: str, own: ModelSpec, given: ModelSpec) -> None:
    """Refuse a model whose descriptors must not be compared with a gallery's.

    Args:
        where: the gallery's location as messages name it.
        own: of the model that made the gallery's descriptors.
        given: of the model that is to be used.

    Raises:
        FingerprintMismatchError: their fingerprints differ.
    """
    if own.fingerprint != given.fingerprint:
        raise FingerprintMismatchError(
            f"{where}: this gallery was indexed with another model ({own.backbone}, fingerprint {own.fingerprint[:12]}) than "
            f"the one given ({given.backbone}, {given.fingerprint[:12]}): give that model, or index again with: "
            "rrid-edge index FOLDER --rebuild",
            parameter="model",
        )


def row_check(row: NewRow, slot: int, crc: int) -> int:
    """CRC-32 over everything a row says, so that a flipped bit in the catalogue is found."""
    values = (slot, row.sha256, row.size, row.mtime_ns, row.camera, row.person, row.time, crc)
    return zlib.crc32(os.fsencode(row.path) + repr(values).encode("utf-8", "surrogateescape"))


def candidates(scores: NDArray[np.float32], allowed: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Positions in ``scores``, out of ``allowed``, that may be among the best ``top_k``, ties and rounding included."""
    own = scores[allowed]
    if len(own) <= top_k:
        return allowed
    border = np.partition(own, len(own) - top_k)[len(own) - top_k]
    chosen: NDArray[np.int64] = allowed[own >= border - 2 * ROUNDING]
    return chosen


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of one query (D,) with some rows (N, D), summed in float64 and rounded once.

    One row at a time: so a score does not depend on which other rows are scored with it.
    """
    wide = query.astype(np.float64)
    return np.array([float(row.astype(np.float64) @ wide) for row in vectors], np.float32)
