"""int8 weights: one scale per output channel, symmetric, rounded to the nearest step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
"""Largest quantised magnitude. Values are -127 to 127; -128 is not used because the range is symmetric."""


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
