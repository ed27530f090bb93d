"""Ranges of activations: histograms over the calibration crops, and three ways to choose a clipping limit."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rrid_calib.weights import LARGEST
from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.errors import ModelFileError
from rrid_edge.model.spec import HOW_MADE
from rrid_edge.progress import step

METHODS = ("minmax", "percentile", "entropy")
BINS = 2048
PERCENTILE = 99.99
"""Percentage of the values that the method ``percentile`` does not clip."""
LARGEST_UNSIGNED = 255
"""Largest value of uint8."""
_LEVELS = LARGEST + 1
"""Number of magnitudes in symmetric int8: 0 to 127."""
_ENTROPY_STEP = 16
"""Bins between two ranges that the method ``entropy`` compares."""


@dataclass(frozen=True)
class Range:
    """What one activation's quantised values cover.

    Attributes:
        limit: the largest magnitude; larger ones are clipped.
        unsigned: whether uint8 loses nothing: no value would be rounded to a negative step of ``limit / 255``.
    """

    limit: float
    unsigned: bool = False

    @classmethod
    def of(cls, limit: float, smallest: float) -> Range:
        """The range of an activation whose smallest value is ``smallest``."""
        return cls(limit, smallest >= -0.5 * limit / LARGEST_UNSIGNED)

    def step(self, *, unsigned: bool) -> float:
        """Value of one step of uint8 (0 to 255), or of symmetric int8 (-127 to 127)."""
        return self.limit / (LARGEST_UNSIGNED if unsigned else LARGEST)


class Histogram:
    """Histogram of the magnitudes of one tensor: :data:`BINS` bins from 0 to a limit that doubles when it is exceeded.

    Attributes:
        counts: int64, (BINS,).
        limit: upper end of the last bin.
        largest: largest magnitude seen.
        smallest: smallest value seen, with its sign; 0 if none is negative.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0
        self.smallest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of ``values``, of any shape."""
        magnitudes = np.abs(values.ravel())
        self.smallest = min(self.smallest, float(values.min(initial=0.0)))
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

    def clip_limit(self, method: str) -> float:
        """The largest magnitude that is not clipped.

        Args:
            method: ``minmax`` clips nothing. ``percentile`` clips the values above :data:`PERCENTILE` per cent.
                ``entropy`` minimises the Kullback-Leibler divergence of the quantised distribution.
        """
        if self.largest == 0:
            return 1.0
        if method == "minmax":
            return self.largest
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            last_bin = int(np.searchsorted(share, PERCENTILE / 100))
        else:
            last_bin = _least_divergence(self.counts)
        return min(self.largest, (last_bin + 1) * self.limit / BINS)


def collect(
    model: Any,  # noqa: ANN401 - a protobuf message
    tensors: Iterable[str],
    pixels: NDArray[np.uint8],
    *,
    batch: int = 4,
    watch: Callable[[str, NDArray[np.float32]], None] = lambda _name, _values: None,
) -> dict[str, Histogram]:
    """Histograms of activations over images. At most one batch of activations is in memory.

    Args:
        model: float32 ONNX model.
        tensors: names of the activations.
        pixels: uint8 (N, height, width, 3).
        batch: images per inference call; the histograms do not depend on it, except for rounding.
        watch: called with name and values of each activation of each batch.

    Returns:
        Histograms by the names of the activations.

    Raises:
        ModelFileError: an activation is not finite, so the network is damaged.
    """
    histograms: dict[str, Histogram] = defaultdict(Histogram)
    names = sorted(set(tensors))
    with step("measuring ranges", len(names) * -(-len(pixels) // batch), in_percent=True) as measuring:
        for name, values in _activations(model, names, pixels, batch):
            histograms[name].add(values)
            watch(name, values)
            measuring.advance(1)
    return dict(histograms)


def ranges_of(histograms: dict[str, Histogram], method: str) -> dict[str, Range]:
    """Range of each activation."""
    return {name: Range.of(item.clip_limit(method), item.smallest) for name, item in histograms.items()}


def descriptors_of(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:  # noqa: ANN401
    """Run an ONNX model from memory: uint8 images (N, height, width, 3) to float32 descriptors (N, D)."""
    return MemorySession(model.SerializeToString()).run(pixels)


def _activations(
    model: Any,  # noqa: ANN401
    names: Sequence[str],
    pixels: NDArray[np.uint8],
    batch: int,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and values of each activation, ``batch`` images per inference call."""
    watched = copy.deepcopy(model)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = MemorySession(watched.SerializeToString())
    for start in range(0, len(pixels), batch):
        block = pixels[start : start + batch]
        for name, values in zip(names, session.values(names, block), strict=True):
            if not np.isfinite(values).all():
                raise ModelFileError(
                    f"activation {name!r} is not finite: the network is damaged; export it again with: {HOW_MADE}"
                )
            yield name, values


def _least_divergence(counts: NDArray[np.int64]) -> int:
    """Last bin of the range for which clipped and quantised distribution have the least divergence."""
    values = counts.astype(np.float64)
    # Leave zeros out: after a ReLU they are half of all values and would dominate, and int8 represents them exactly.
    values[0] = 0
    total = values.sum()
    if total == 0:
        return len(counts) - 1
    least, chosen = np.inf, len(counts) - 1
    for end in range(_LEVELS, len(counts) + 1, _ENTROPY_STEP):
        inside = values[:end].copy()
        clipped = inside.copy()
        clipped[-1] += total - inside.sum()
        level = np.arange(end) * _LEVELS // end
        filled = inside > 0
        mass = np.bincount(level, inside, _LEVELS)
        members = np.bincount(level, filled, _LEVELS)
        quantised = np.where(filled, mass[level] / np.maximum(members[level], 1), 0)
        if quantised.sum() == 0:
            continue
        divergence = _divergence(clipped / clipped.sum(), quantised / quantised.sum())
        if divergence < least:
            least, chosen = divergence, end - 1
    return chosen


def _divergence(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of ``two`` from ``one``. Empty bins of ``two`` get the probability 1e-9."""
    filled = one > 0
    return float((one[filled] * np.log(one[filled] / np.maximum(two[filled], 1e-9))).sum())
