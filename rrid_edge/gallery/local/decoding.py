"""Decoding stored vectors to float32: both cores, and float16 by integer shifts where that is exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from rrid_edge.machine.processor import usable_cores

_PIECE = 1 << 16
"""Values per step: 64 Ki float32 values and their float16 source fit a core's second-level cache."""
_PARALLEL = 1 << 20
"""Values from which a second thread pays: below, waking it takes longer than it saves."""
_MOST_THREADS = 8
_INFINITY, _NEGATIVE_INFINITY = 0x7C00, 0xFC00
_SIGN_AND_SHIFTED = np.uint32(0x8FFFE000)
_REBIAS = np.float32(2.0**112)
"""The exponent of float16 is biased by 15, that of float32 by 127."""


def decode(stored: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rows (N, D) in float32, equal to ``stored.astype(np.float32)`` bit by bit for finite values."""
    if stored.dtype != np.float16:
        return np.asarray(stored, np.float32)
    result = np.empty(stored.shape, np.float32)
    decode_into(stored, result)
    return result


def decode_into(stored: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    """Decode rows (N, D) into ``out``, float32 (N, D), of contiguous rows."""
    threads = min(_MOST_THREADS, usable_cores()) if stored.size >= _PARALLEL else 1
    part = -(-len(stored) // threads)
    pieces = [(stored[start : start + part], out[start : start + part]) for start in range(0, len(stored), part or 1)]
    waiting = [_pool().submit(_decode_part, *piece) for piece in pieces[1:]]
    for piece in pieces[:1]:
        _decode_part(*piece)
    for task in waiting:
        task.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, min(_MOST_THREADS, usable_cores()) - 1), "decoding")


def decode_few(stored: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    """Decode a few rows (N, D) on one core, without a check of every value, which takes a third of the time.

    float16 values that are not finite become finite ones of 65,536 or more. Only damaged rows have any, and their
    checksums tell.
    """
    if stored.dtype != np.float16:
        np.copyto(out, stored)
        return
    rows = max(1, _PIECE // max(1, stored.shape[1]))
    for start in range(0, len(stored), rows):
        _shift(stored[start : start + rows], out[start : start + rows])


def _decode_part(stored: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    rows = max(1, _PIECE // max(1, stored.shape[1]))
    for start in range(0, len(stored), rows):
        piece, target = np.asarray(stored[start : start + rows]), out[start : start + rows]
        if piece.dtype != np.float16 or not piece.size or not _is_finite(piece):
            np.copyto(target, piece)
        else:
            _shift(piece, target)


def _shift(piece: NDArray[np.generic], target: NDArray[np.float32]) -> None:
    # float16 bits, sign-extended and shifted by 13, are the sign, a surplus of copied signs that the mask clears, and
    # exponent and fraction in float32's places. The exact product by 2^112 corrects the exponent's bias, also of
    # subnormal values.
    bits = target.view(np.uint32)
    np.copyto(target.view(np.int32), piece.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SIGN_AND_SHIFTED, out=bits)
    np.multiply(target, _REBIAS, out=target)


def _is_finite(piece: NDArray[np.generic]) -> bool:
    # The bits of infinity and NaN are the largest of each sign, as signed numbers and as unsigned ones.
    return int(piece.view(np.int16).max()) < _INFINITY and int(piece.view(np.uint16).max()) < _NEGATIVE_INFINITY
