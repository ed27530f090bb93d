"""int8 weights: one scale per output channel, symmetric, rounded to the nearest step.

Weights of convolutions and of a Gemm are stored in rows, one per output channel. Those of a MatMul, (G, C, O) or
(C, O), are turned into G * O rows of C inputs, ordered by group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
"""Largest quantised magnitude. Values are -127 to 127; -128 is not used because the range is symmetric."""


def in_rows(weights: NDArray[Any], *, head: bool) -> NDArray[Any]:
    """Weights as rows, one per output channel.

    Args:
        weights: weights as the file stores them.
        head: whether they are those of a MatMul, (G, C, O) or (C, O), which gives (G * O, C). Others stay as they are.
    """
    return np.ascontiguousarray(weights.swapaxes(-1, -2)).reshape(-1, weights.shape[-2]) if head else weights


def as_stored(rows: NDArray[np.int8], shape: tuple[int, ...], *, head: bool) -> NDArray[np.int8]:
    """Undo :func:`in_rows` for weights of this shape."""
    if not head:
        return rows.reshape(shape)
    *groups, inputs, outputs = shape
    return np.ascontiguousarray(rows.reshape(*groups, outputs, inputs).swapaxes(-1, -2))


def weight_steps(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale of each output channel, float32 (outputs,): the largest magnitude of its weights (outputs, ...) / 127."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    steps: NDArray[np.float32] = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(LARGEST)
    return steps


def quantised_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise weights to the nearest int8 step.

    Args:
        weights: float32, (outputs, ...).

    Returns:
        int8 weights of the same shape, and the scale of each output channel, float32 (outputs,).
    """
    steps = weight_steps(weights)
    shaped = steps.reshape(-1, *[1] * (weights.ndim - 1))
    return np.clip(np.rint(weights / shaped), -LARGEST, LARGEST).astype(np.int8), steps
