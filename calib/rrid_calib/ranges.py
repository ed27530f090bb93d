"""What range an activation's int8 values have to span: histograms over the calibration crops, and three ways to read them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rrid_calib.graph import LARGEST
from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.errors import ModelFileError

METHODS = ("minmax", "percentile", "entropy")
BINS = 2048
PERCENTILE = 99.99
"""Share of the values, in per cent, that the method ``percentile`` leaves unclipped."""
_LEVELS = LARGEST + 1
"""Magnitudes that int8 distinguishes."""
_ENTROPY_STEP = 16


class Histogram:
    """Magnitudes of one tensor, in :data:`BINS` bins from 0 to a limit that doubles as larger values come.

    Attributes:
        counts: int64, (BINS,).
        limit: upper end of the last bin.
        largest: largest magnitude seen.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count ``values``, of any shape."""
        magnitudes = np.abs(values.ravel())
        largest = float(magnitudes.max(initial=0.0))
        self.largest = max(self.largest, largest)
        if largest == 0:
            self.counts[0] += len(magnitudes)
            return
        if self.limit == 0:
            self.limit = largest
        while self.limit < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
        self.counts += np.histogram(magnitudes, BINS, (0, self.limit))[0]

    def reach(self, method: str) -> float:
        """The magnitude that the largest int8 value stands for.

        Args:
            method: ``minmax`` (nothing is clipped), ``percentile`` (:data:`PERCENTILE`), or ``entropy`` (the range whose
                quantised distribution loses least information by Kullback-Leibler divergence).
        """
        if self.largest == 0:
            return 1.0
        if method == "minmax":
            return self.largest
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            place = int(np.searchsorted(share, PERCENTILE / 100))
        else:
            place = _least_divergence(self.counts)
        return min(self.largest, (place + 1) * self.limit / BINS)


def collect(
    model: Any,  # noqa: ANN401 - a protobuf message
    tensors: Iterable[str],
    pixels: NDArray[np.uint8],
    *,
    batch: int = 4,
    watch: Callable[[str, NDArray[np.float32]], None] = lambda _name, _values: None,
) -> dict[str, Histogram]:
    """Histograms of activations over images; memory is bounded by one batch.

    Args:
        model: float32 ONNX model.
        tensors: names of activations.
        pixels: uint8 (N, height, width, 3).
        batch: images at a time; the result does not depend on it but for rounding.
        watch: called with the name and the values of every activation as it comes.

    Raises:
        ModelFileError: an activation that is not finite: the network is damaged.
    """
    histograms: dict[str, Histogram] = defaultdict(Histogram)
    for name, values in _activations(model, tensors, pixels, batch):
        histograms[name].add(values)
        watch(name, values)
    return dict(histograms)


def scales(histograms: dict[str, Histogram], method: str) -> dict[str, float]:
    """The value of one int8 step of every activation."""
    return {name: histogram.reach(method) / LARGEST for name, histogram in histograms.items()}


def descriptors_of(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:  # noqa: ANN401
    """Descriptors of images by an ONNX model that is in memory: float32 (N, D)."""
    return MemorySession(model.SerializeToString()).run(pixels)


def _activations(
    model: Any,  # noqa: ANN401
    tensors: Iterable[str],
    pixels: NDArray[np.uint8],
    batch: int,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Values of activations, ``batch`` images at a time."""
    names = sorted(set(tensors))
    watched = copy.deepcopy(model)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = MemorySession(watched.SerializeToString())
    for start in range(0, len(pixels), batch):
        block = pixels[start : start + batch]
        for name, values in zip(names, session.values(names, block), strict=True):
            if not np.isfinite(values).all():
                raise ModelFileError(f"the activation {name!r} is not finite: the network is damaged; export it again")
            yield name, values


def _least_divergence(counts: NDArray[np.int64]) -> int:
    """The last bin of the range whose quantised distribution is nearest to the clipped one.

    Zeros are left out: after a ReLU they are half of all values, int8 holds them exactly, and they would drown the rest.
    """
    values = counts.astype(np.float64)
    values[0] = 0
    total = values.sum()
    if total == 0:
        return len(counts) - 1
    best, chosen = np.inf, len(counts) - 1
    for end in range(_LEVELS, len(counts) + 1, _ENTROPY_STEP):
        inside = values[:end].copy()
        clipped = inside.copy()
        clipped[-1] += total - inside.sum()
        level = np.arange(end) * _LEVELS // end
        filled = inside > 0
        mass = np.bincount(level, inside, _LEVELS)
        members = np.bincount(level, filled, _LEVELS)
        spread_out = np.where(filled, mass[level] / np.maximum(members[level], 1), 0)
        if spread_out.sum() == 0:
            continue
        divergence = _divergence(clipped / clipped.sum(), spread_out / spread_out.sum())
        if divergence < best:
            best, chosen = divergence, end - 1
    return chosen


def _divergence(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence; bins that only ``one`` holds count as a very unlikely value of ``two``."""
    held = one > 0
    return float((one[held] * np.log(one[held] / np.maximum(two[held], 1e-9))).sum())
