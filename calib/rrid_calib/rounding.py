"""int8 weights whose rounding errors cancel on real activations, instead of weights that are rounded one by one.

What counts is not how far a weight moves but how far the layer's output does, on inputs x as they occur: the error is
d H dᵀ with H = E[x xᵀ]. Inputs after a ReLU are positive and alike, so H is far from diagonal and errors of one sign add up.
Weights are rounded one input after another, and what each rounding gets wrong is taken off the weights still to come
(optimal brain surgeon, applied to rounding: Frantar et al., "GPTQ", ICLR 2023, section 3.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_calib.graph import LARGEST, Layer, int8_layers, weight_steps

_PATCHES = 24
"""Places of each activation map that are looked at: enough for all inputs of the widest layer over some hundred crops."""
_DAMPING = 0.01
"""Share of the mean diagonal that is added to H, so that it can be inverted where inputs never move."""
_BLOCK = 128
"""Inputs whose corrections are applied to the rest at once."""


class SecondMoments:
    """E[x xᵀ] of the inputs of convolutions, from activations as they come.

    Args:
        layers: to be watched, as far as their geometry is known.
        shapes: of their weights, (outputs, inputs of a group, kernel height, kernel width), by layer name.
        geometry: stride and padding (both directions alike) of every layer, by its name.
        seed: of the choice of places.
    """

    def __init__(
        self,
        layers: Collection[Layer],
        shapes: dict[str, tuple[int, ...]],
        geometry: dict[str, tuple[int, int]],
        seed: int = 0,
    ) -> None:
        self._layers = [layer for layer in layers if layer.name in geometry]
        self._shapes, self._geometry = shapes, geometry
        # One generator a layer, drawn from image by image: the places do not depend on how images come in batches.
        self._generators = {layer.name: np.random.default_rng([seed, 31, place]) for place, layer in enumerate(layers)}
        self._sums: dict[str, NDArray[np.float32]] = {}
        self._counts: dict[str, int] = {}

    def add(self, tensor: str, values: NDArray[np.float32]) -> None:
        """Take the values (N, C, H, W) of one activation tensor."""
        for layer in self._layers:
            if layer.source == tensor:
                patches = self._patches(layer.name, values)
                products = np.matmul(patches.transpose(0, 2, 1), patches)
                self._sums[layer.name] = self._sums.get(layer.name, np.float32(0)) + products
                self._counts[layer.name] = self._counts.get(layer.name, 0) + patches.shape[1]

    def of(self, name: str) -> NDArray[np.float32] | None:
        """H of a layer: (groups, K, K), K inputs of an output; None where the layer was not watched."""
        return self._sums[name] / np.float32(self._counts[name]) if name in self._sums else None

    def _patches(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of some outputs, (groups, places, K)."""
        _, inputs, height, width = self._shapes[name]
        stride, padding = self._geometry[name]
        if padding:
            values = np.pad(values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(values, (height, width), axis=(2, 3))[:, :, ::stride, ::stride]
        images, channels, rows, columns = windows.shape[:4]
        count = min(_PATCHES, rows * columns)
        generator = self._generators[name]
        places = np.stack([generator.permutation(rows * columns)[:count] for _ in range(images)])
        chosen = windows[np.arange(images)[:, None], :, places // columns, places % columns]  # (N, places, C, h, w)
        groups = channels // inputs
        grouped = chosen.reshape(images * count, groups, inputs * height * width)
        return np.ascontiguousarray(grouped.transpose(1, 0, 2))


def compensated(
    weights: NDArray[np.float32], steps: NDArray[np.float32], moments: NDArray[np.float32]
) -> NDArray[np.int8]:
    """int8 weights of small output error.

    Args:
        weights: float32, (outputs, ...).
        steps: float32 (outputs,): value of one step of int8.
        moments: E[x xᵀ] of the inputs, (groups, K, K); outputs belong to the groups in order.

    Returns:
        int8 of the weights' shape, in -127 .. 127.
    """
    groups = len(moments)
    flat = weights.reshape(groups, len(weights) // groups, -1)
    by_group = steps.reshape(groups, -1)
    rounded = [_one_group(*item) for item in zip(flat, by_group, moments, strict=True)]
    return np.stack(rounded).reshape(weights.shape)


def _one_group(
    weights: NDArray[np.float32], steps: NDArray[np.float32], moments: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Weights (outputs, K) of one group."""
    damped = moments.astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * max(float(np.mean(np.diag(damped))), 1e-12)
    # Upper triangular factor of the inverse: row i says how the inputs after i make up for an error at i.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    left = weights.copy()
    result = np.empty(weights.shape, np.int8)
    for start in range(0, weights.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weights.shape[1])
        errors = np.empty((len(weights), stop - start), np.float32)
        for place in range(start, stop):
            steps_of = np.clip(np.rint(left[:, place] / steps), -LARGEST, LARGEST)
            result[:, place] = steps_of
            error = (left[:, place] - steps_of * steps) / factor[place, place]
            left[:, place:stop] -= np.outer(error, factor[place, place:stop])
            errors[:, place - start] = error
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return result


def watched(model: Any, seed: int = 0) -> SecondMoments:  # noqa: ANN401 - a protobuf message
    """Moments, still empty, of all layers of a model from :func:`rrid_calib.graph.read_graph`."""
    layers = int8_layers(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {layer.name: weights[layer.weight] for layer in layers}
    return SecondMoments(layers, shapes, _geometry(model.graph.node, shapes), seed)


def rounded_weights(model: Any, moments: SecondMoments) -> dict[str, NDArray[np.int8]]:  # noqa: ANN401
    """int8 weights of all watched layers by the names of their weights."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    result = {}
    for layer in int8_layers(model):
        found = moments.of(layer.name)
        if found is not None:
            weights = numpy_helper.to_array(values[layer.weight])
            result[layer.weight] = compensated(weights, weight_steps(weights), found)
    return result


def _geometry(nodes: Iterable[Any], names: Collection[str]) -> dict[str, tuple[int, int]]:
    """Stride and padding of convolutions that have one of each for both directions, by their names."""
    geometry = {}
    for node in nodes:
        if node.name in names:
            attributes = {item.name: list(item.ints) for item in node.attribute}
            strides, pads = set(attributes.get("strides", [1])), set(attributes.get("pads", [0]))
            if len(strides) == len(pads) == 1 and set(attributes.get("dilations", [1])) == {1}:
                geometry[node.name] = (strides.pop(), pads.pop())
    return geometry
