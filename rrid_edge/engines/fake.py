"""A deterministic engine without a runtime or a model file, for tests: ours and our users'."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import BatchEngine
from rrid_edge.model.spec import ModelSpec


class FakeEngine(BatchEngine):
    """Descriptors that depend on the pixels alone: near-equal images get near-equal descriptors.

    Each image is shrunk to an 8 x 4 grid of mean colours, centred, projected by a fixed random matrix and normalised;
    the mirrored image gives the same descriptor when ``spec.flip`` is set.

    Args:
        spec: what to pretend to be; a small 192 x 64 network of 15 blocks of 16 values by default.
        max_batch: images a call.
    """

    def __init__(self, spec: ModelSpec | None = None, *, max_batch: int = 32) -> None:
        spec = spec or fake_spec()
        super().__init__(spec, "fake", max_batch)
        generator = np.random.default_rng(int(spec.fingerprint[:16], 16))
        self._projection = generator.standard_normal((8 * 4 * 3, spec.dimension)).astype(np.float32)

    def _run_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        views = [images, images[:, :, ::-1]] if self.spec.flip else [images]
        total = np.zeros((len(images), self.spec.dimension), np.float32)
        for view in views:
            grid = _mean_colours(view)
            grid -= grid.mean(axis=1, keepdims=True)
            # One row at a time: a matrix product may round differently with the batch's size.
            total += np.stack([row @ self._projection for row in grid]) + np.float32(1e-3)
        lengths = np.sqrt(np.square(total).sum(axis=1, keepdims=True))
        unit: NDArray[np.float32] = total / np.maximum(lengths, np.float32(1e-12))
        return unit


def fake_spec(name: str = "fake", *, height_px: int = 192, width_px: int = 64, block_width: int = 16) -> ModelSpec:
    """A specification for :class:`FakeEngine`; another ``name`` gives another fingerprint."""
    return ModelSpec(
        height_px=height_px,
        width_px=width_px,
        fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        block_width=block_width,
        backbone="resnet18",
        training_data="none",
    )


def _mean_colours(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    batch, height, width, _ = images.shape
    rows = np.add.reduceat(images.astype(np.float32), np.arange(8) * height // 8, axis=1)
    cells = np.add.reduceat(rows, np.arange(4) * width // 4, axis=2)
    grid: NDArray[np.float32] = cells.reshape(batch, -1) / np.float32(height * width / 32 * 255)
    return grid
