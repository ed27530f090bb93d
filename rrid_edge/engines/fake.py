"""A deterministic engine for tests. It needs no runtime and no model file."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.model.spec import FLOAT32_NCHW, ModelSpec


class FakeEngine(BatchEngine):
    """Computes descriptors from the pixels alone: similar images get similar descriptors.

    An image is reduced to an 8 x 4 grid of mean colours, centred, projected by a fixed random matrix and normalised.
    With ``spec.flip`` an image and its mirror get the same descriptor.

    Args:
        spec: spec of the engine; by default a small 192 x 64 network of 15 blocks of 16 values.
        max_batch: images per call.
    """

    def __init__(self, spec: ModelSpec | None = None, *, max_batch: int = 32) -> None:
        spec = spec or fake_spec()
        super().__init__(spec, "fake", max_batch)
        generator = np.random.default_rng(int(spec.fingerprint[:16], 16))
        self._projection = generator.standard_normal((8 * 4 * 3, spec.dimension)).astype(np.float32)

    def _run_batch(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if self.spec.input == FLOAT32_NCHW:
            images = images.transpose(0, 2, 3, 1)
        views = [images, images[:, :, ::-1]] if self.spec.flip else [images]
        total = np.zeros((len(images), self.spec.dimension), np.float32)
        for view in views:
            grid = _mean_colours(view)
            grid -= grid.mean(axis=1, keepdims=True)
            # Row by row: the rounding of a matrix product can depend on the batch size.
            total += np.stack([row @ self._projection for row in grid]) + np.float32(1e-3)
        lengths = np.sqrt(np.square(total).sum(axis=1, keepdims=True))
        unit: NDArray[np.float32] = total / np.maximum(lengths, np.float32(1e-12))
        return unit


def fake_spec(name: str = "fake", *, height_px: int = 192, width_px: int = 64, block_width: int = 16) -> ModelSpec:
    """A spec for :class:`FakeEngine`; another ``name`` gives another fingerprint."""
    return ModelSpec(
        height_px=height_px,
        width_px=width_px,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        block_width=block_width,
        backbone="resnet18",
        training_data="none",
    )


def _mean_colours(images: NDArray[Any]) -> NDArray[np.float32]:
    batch, height, width, _ = images.shape
    rows = np.add.reduceat(images.astype(np.float32), np.arange(8) * height // 8, axis=1)
    cells = np.add.reduceat(rows, np.arange(4) * width // 4, axis=2)
    grid: NDArray[np.float32] = cells.reshape(batch, -1) / np.float32(height * width / 32 * 255)
    return grid
