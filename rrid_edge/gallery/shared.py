"""What both stores need: refusals, row checksums, exact scores and constants of the format."""

from __future__ import annotations

import os
import zlib

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import FingerprintMismatchError, UsageError
from rrid_edge.gallery.base import NewRow
from rrid_edge.model.spec import ModelSpec

DTYPES = ("float16", "float32")
"""Types in which vectors can be stored."""
UNKNOWN = -(2**62)
"""Stored value of an unknown camera or time."""
ROUNDING = np.float32(4e-6)
"""Largest error of a float32 product of unit vectors, in any order of summation."""


def refuse_foreign(where: str, own: ModelSpec, given: ModelSpec) -> None:
    """Refuse a model whose descriptors cannot be compared with a gallery's.

    Args:
        where: the gallery's location as messages name it.
        own: the model that made the gallery's descriptors.
        given: the model that will be used.

    Raises:
        FingerprintMismatchError: the fingerprints differ.
    """
    if own.fingerprint != given.fingerprint:
        raise FingerprintMismatchError(
            f"{where}: this gallery was indexed with another model ({own.backbone}, fingerprint "
            f"{own.fingerprint[:12]}) than the given one ({given.backbone}, {given.fingerprint[:12]}): give that "
            "model, or rebuild the index with: rrid-edge index FOLDER --rebuild",
            parameter="model",
        )


def refuse_unknown_dtype(dtype: str) -> None:
    """Refuse a type in which vectors cannot be stored.

    Raises:
        UsageError: ``dtype`` is not one of :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown: expected one of {', '.join(DTYPES)}", parameter="dtype")


def refuse_unfitting(shape: tuple[int, ...], rows: int, dimension: int) -> None:
    """Refuse descriptors whose shape is not (rows, dimension).

    Raises:
        UsageError: the shape differs.
    """
    if shape != (rows, dimension):
        raise UsageError(
            f"descriptors of shape {shape} do not fit {rows} rows of {dimension} values: expected shape ({rows}, "
            f"{dimension})",
            parameter="vectors",
        )


def row_check(row: NewRow, slot: int, crc: int) -> int:
    """CRC-32 over all fields of a row, its slot and its vector's checksum."""
    values = (slot, row.sha256, row.size, row.mtime_ns, row.camera, row.person, row.time, crc)
    return zlib.crc32(os.fsencode(row.path) + repr(values).encode("utf-8", "surrogateescape"))


def candidates(scores: NDArray[np.float32], allowed: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Positions that may be among the best ``top_k``, ties and rounding included.

    Args:
        scores: float32 (N,): approximate scores.
        allowed: int64 (M,): positions in ``scores`` to choose from.
        top_k: hits.

    Returns:
        int64 (K,), a subset of ``allowed``.
    """
    allowed_scores = scores[allowed]
    if len(allowed_scores) <= top_k:
        return allowed
    last_score = np.partition(allowed_scores, len(allowed_scores) - top_k)[len(allowed_scores) - top_k]
    chosen: NDArray[np.int64] = allowed[allowed_scores >= last_score - 2 * ROUNDING]
    return chosen


def exact_scores(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of a query (D,) with rows (N, D), summed in float64 and rounded once: float32 (N,)."""
    # Row by row: a matrix product would make a score depend on the other rows.
    wide = query.astype(np.float64)
    return np.array([float(row.astype(np.float64) @ wide) for row in vectors], np.float32)
