"""Round weights to int8 so that their rounding errors cancel on real activations.

The method is GPTQ (Frantar et al., ICLR 2023, section 3.3). It minimises the squared error of a layer's output,
d H dᵀ, with the rounding errors d of the weights and H = E[x xᵀ] of the inputs x. Weights are rounded one input after
another, and each rounding error is compensated in the weights that are not rounded yet.

What it gains: ``docs/decisions/precision.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_calib.layers import Layer, int8_layers
from rrid_calib.weights import LARGEST, as_stored, in_rows, weight_steps
from rrid_edge.progress import step

_PATCHES_PER_IMAGE = 24
"""Positions per activation map that enter H. Some hundred crops then suffice for the inputs of the widest layer."""
_DAMPING = 0.01
"""Fraction of H's mean diagonal that is added to the diagonal, so that H is invertible even if inputs are constant."""
_BLOCK = 128
"""Inputs per block. The errors of all earlier inputs enter a block with one matrix product."""
_ROWS = 512
"""Positions that are gathered before they enter H: H of a wide layer is large, so it is added to rarely."""


class SecondMoments:
    """Second moments H = E[x xᵀ] of the inputs of layers, summed over batches of activations.

    Args:
        layers: the layers. Convolutions without ``geometry`` are ignored.
        shapes: weight shapes by layer name: of convolutions (outputs, inputs per group, kernel height, kernel width).
        geometry: stride and padding of convolutions by layer name, each equal in both directions, in pixels.
        seed: seed of the sampled positions.
    """

    def __init__(
        self,
        layers: Collection[Layer],
        shapes: dict[str, tuple[int, ...]],
        geometry: dict[str, tuple[int, int]],
        seed: int = 0,
    ) -> None:
        self._layers = [layer for layer in layers if layer.head or layer.name in geometry]
        self._shapes, self._geometry = shapes, geometry
        # One generator per layer, with one draw per image: the positions do not depend on the batch size.
        self._generators = {layer.name: np.random.default_rng([seed, 31, index]) for index, layer in enumerate(layers)}
        self._waiting: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        self._sums: dict[str, NDArray[np.float32]] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, tensor: str, values: NDArray[np.float32]) -> None:
        """Add the values of one activation tensor: (N, C, H, W), or (groups, N, C) or (..., C) before a product."""
        for layer in self._layers:
            if layer.source == tensor:
                self._waiting[layer.name].append(self._inputs(layer, values))
                if sum(patches.shape[1] for patches in self._waiting[layer.name]) >= _ROWS:
                    self._multiply(layer.name)

    def of(self, name: str) -> NDArray[np.float32] | None:
        """H of a layer, (groups, K, K) for K inputs per output, or None if no activations were added."""
        if self._waiting[name]:
            self._multiply(name)
        return self._sums[name] / np.float32(self._counts[name]) if name in self._sums else None

    def _multiply(self, name: str) -> None:
        """Add the products of the gathered inputs of a layer to its sum."""
        patches = np.concatenate(self._waiting.pop(name), axis=1)
        products = np.matmul(patches.transpose(0, 2, 1), patches)
        if name in self._sums:
            self._sums[name] += products
        else:
            self._sums[name] = products
        self._counts[name] += patches.shape[1]

    def _inputs(self, layer: Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of a layer, (groups, positions, K)."""
        if not layer.head:
            return self._patches(layer.name, values)
        shape = self._shapes[layer.name]
        if len(shape) != 3:
            return values.reshape(1, -1, values.shape[-1])
        groups = np.broadcast_to(values, (*values.shape[:-3], shape[0], *values.shape[-2:]))
        return np.moveaxis(groups, -3, 0).reshape(shape[0], -1, values.shape[-1])

    def _patches(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inputs of the layer at sampled output positions, (groups, images * positions, K)."""
        _, inputs, height, width = self._shapes[name]
        stride, padding = self._geometry[name]
        if padding:
            values = np.pad(values, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(values, (height, width), axis=(2, 3))[:, :, ::stride, ::stride]
        images, channels, rows, columns = windows.shape[:4]
        count = min(_PATCHES_PER_IMAGE, rows * columns)
        generator = self._generators[name]
        positions = np.stack([generator.permutation(rows * columns)[:count] for _ in range(images)])
        # (images, positions, channels, kernel height, kernel width)
        chosen = windows[np.arange(images)[:, None], :, positions // columns, positions % columns]
        groups = channels // inputs
        grouped = chosen.reshape(images * count, groups, inputs * height * width)
        return np.ascontiguousarray(grouped.transpose(1, 0, 2))


def compensated(
    weights: NDArray[np.float32], steps: NDArray[np.float32], moments: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Round weights to int8 so that the errors of each output cancel.

    Args:
        weights: float32, (outputs, ...), ordered by group.
        steps: scale of each output channel, float32 (outputs,).
        moments: E[x xᵀ] of the inputs of each group, (groups, K, K).

    Returns:
        int8 weights of the same shape, from -127 to 127.
    """
    groups = len(moments)
    weights_by_group = weights.reshape(groups, len(weights) // groups, -1)
    steps_by_group = steps.reshape(groups, -1)
    rounded = [_compensated_group(*item) for item in zip(weights_by_group, steps_by_group, moments, strict=True)]
    return np.stack(rounded).reshape(weights.shape)


def _compensated_group(
    weights: NDArray[np.float32], steps: NDArray[np.float32], moments: NDArray[np.float32]
) -> NDArray[np.int8]:
    """Round the weights (outputs, K) of one group.

    With H = R Rᵀ and R upper triangular, d H dᵀ is the sum of squares of d R. Entry i of d R depends on the rounding
    errors of the inputs up to i only, so each input in turn is rounded to the step that makes its entry smallest. This
    equals GPTQ's updates with the Cholesky factor of the inverse of H, and needs no inverse.
    """
    damped = moments.astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * max(float(np.mean(np.diag(damped))), 1e-12)
    factor = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1].astype(np.float32)
    # One row per input, because the loop takes one input at a time.
    by_input = np.ascontiguousarray(weights.T)
    errors = np.empty_like(by_input)
    result = np.empty(by_input.shape, np.int8)
    for start in range(0, len(by_input), _BLOCK):
        stop = min(start + _BLOCK, len(by_input))
        entries = factor[:start, start:stop].T @ errors[:start]
        for index in range(start, stop):
            wanted = by_input[index] + entries[index - start] / factor[index, index]
            rounded = np.clip(np.rint(wanted / steps), -LARGEST, LARGEST)
            result[index] = rounded
            errors[index] = by_input[index] - rounded * steps
            entries[index - start + 1 :] += np.outer(factor[index, index + 1 : stop], errors[index])
    by_output: NDArray[np.int8] = result.T
    return by_output


def empty_moments(model: Any, seed: int = 0) -> SecondMoments:  # noqa: ANN401 - a protobuf message
    """Second moments, without activations yet, for all layers of a model."""
    layers = int8_layers(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {layer.name: weights[layer.weight] for layer in layers}
    return SecondMoments(layers, shapes, _geometry(model.graph.node, shapes), seed)


def rounded_weights(model: Any, moments: SecondMoments) -> dict[str, NDArray[np.int8]]:  # noqa: ANN401
    """Round the weights of all layers that have second moments: weight name -> int8 weights."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[Layer]] = defaultdict(list)
    for layer in int8_layers(model):
        readers[layer.weight].append(layer)
    result = {}
    with step("rounding weights of layers", len(readers)) as rounding:
        for name, layers in readers.items():
            # Layers that share weights share their rounding: the moments of all of them count alike.
            found = [moment for layer in layers if (moment := moments.of(layer.name)) is not None]
            if found:
                weights, head = numpy_helper.to_array(values[name]), layers[0].by_column
                rows = in_rows(weights, head=head)
                mean = found[0] if len(found) == 1 else np.stack(found).mean(axis=0)
                result[name] = as_stored(compensated(rows, weight_steps(rows), mean), weights.shape, head=head)
            rounding.advance(1)
    return result


def _geometry(nodes: Iterable[Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """Stride and padding of convolutions over images, by layer name.

    Convolutions with dilation, or with unequal directions, are left out.
    """
    geometry = {}
    for node in nodes:
        if len(shapes.get(node.name, ())) == 4:
            attributes = {item.name: list(item.ints) for item in node.attribute}
            strides, pads = set(attributes.get("strides", [1])), set(attributes.get("pads", [0]))
            if len(strides) == len(pads) == 1 and set(attributes.get("dilations", [1])) == {1}:
                geometry[node.name] = (strides.pop(), pads.pop())
    return geometry
