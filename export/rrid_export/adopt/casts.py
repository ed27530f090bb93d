"""Colour casts of cameras: taken off labelled crops, and put on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Gains = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
_STRONGEST: Final = 0.1
"""Largest share by which a channel of a camera is changed. White balance that is off by this is seen, and usual."""


def without_casts(images: NDArray[np.uint8], cameras: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Crops whose channels have the same mean in each camera (grey-world balance: Buchsbaum, 1980).

    Args:
        images: uint8 (N, height, width, 3).
        cameras: int64 (N,).
    """
    wanted = images.mean(axis=(0, 1, 2))
    return _multiplied(
        images, cameras, lambda own: np.asarray(wanted / np.maximum(own.mean(axis=(0, 1, 2)), 1), np.float64)
    )


def with_casts(images: NDArray[np.uint8], cameras: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Crops whose cameras have other colour casts: theirs are taken off, then random mild ones are put on.

    Args:
        images: uint8 (N, height, width, 3).
        cameras: int64 (N,).
        seed: seed of the casts.
    """
    generator = np.random.default_rng([seed, 47])
    return _multiplied(
        without_casts(images, cameras), cameras, lambda _: 1 + generator.uniform(-_STRONGEST, _STRONGEST, 3)
    )


def _multiplied(images: NDArray[np.uint8], cameras: NDArray[np.int64], gains: Gains) -> NDArray[np.uint8]:
    changed = np.empty_like(images)
    for camera in np.unique(cameras):
        own = cameras == camera
        changed[own] = np.clip(np.rint(images[own] * gains(images[own])), 0, 255).astype(np.uint8)
    return changed
