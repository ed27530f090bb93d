"""Channels of one layer's input brought to like ranges before int8, at no cost when the model runs.

One step of int8 serves a whole activation tensor, so a channel with small values next to one with large values is rounded
away. Dividing every channel by a factor and multiplying the weights that read it by the same factor leaves the network's
answer as it was, and the factor can be chosen between the two ranges (Xiao et al., "SmoothQuant", ICML 2023, equation 4;
Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1).

Where the input comes from a convolution and a ReLU and nobody else reads it, the division goes into that convolution's
weights and bias: each of its output channels has a step of its own, so this costs no accuracy. The head's inputs come
from pooling in float32 and are divided there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_calib.graph import Layer, int8_layers, set_nodes

STRENGTH = 0.5
"""Share of the unevenness that goes from the activations to the weights."""
_SMALLEST = 1e-5
"""Ranges below this share of the largest count as this share: a channel that is all but dead must not blow up its weights."""


def smoothed(model: Any, largest: Mapping[str, NDArray[np.float32]], strength: float = STRENGTH) -> Any:  # noqa: ANN401
    """A copy of ``model`` with the same answers and more even activations.

    Args:
        model: float32, from :func:`rrid_calib.graph.read_graph`.
        largest: of every layer's input tensor the largest magnitude of each channel, float32 (C,), over calibration crops.
        strength: 0 leaves the activations as they are, 1 makes their channels' ranges equal.
    """
    result = copy.deepcopy(model)
    graph = result.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    makers = {name: node for node in graph.node for name in node.output}
    divided: list[Any] = []
    for layer in int8_layers(result):
        groups = _groups(nodes[layer.name])
        before = _sole_convolution(graph, makers, layer)
        if before is None and groups == 1:
            continue
        weights = numpy_helper.to_array(tensors[layer.weight])
        factors = _factors(largest[layer.source], _largest_read(weights, groups), strength)
        _store(tensors[layer.weight], _times_inputs(weights, factors, groups))
        if before is None:
            divided.append(_divide(graph, nodes[layer.name], 1 / factors))
            continue
        for name in before.input[1:]:
            values = numpy_helper.to_array(tensors[name])
            _store(tensors[name], values / factors.reshape(-1, *[1] * (values.ndim - 1)))
    set_nodes(graph, [*graph.node, *divided])
    return result


def _sole_convolution(graph: Any, makers: Mapping[str, Any], layer: Layer) -> Any:  # noqa: ANN401
    """The convolution whose rectified output only ``layer`` reads, or None."""
    rectifier = makers.get(layer.source)
    if rectifier is None or rectifier.op_type != "Relu" or _readers(graph, layer.source) != 1:
        return None
    maker = makers.get(rectifier.input[0])
    if maker is None or maker.op_type != "Conv" or _readers(graph, rectifier.input[0]) != 1:
        return None
    return maker


def _readers(graph: Any, tensor: str) -> int:  # noqa: ANN401
    return sum(name == tensor for node in graph.node for name in node.input)


def _groups(node: Any) -> int:  # noqa: ANN401
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _largest_read(weights: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """Largest magnitude of the weights that read each input channel: (groups * C,)."""
    by_group = np.abs(weights).reshape(groups, -1, weights.shape[1], int(np.prod(weights.shape[2:])))
    return by_group.max(axis=(1, 3)).ravel()


def _factors(activations: NDArray[np.float32], weights: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    held = [np.maximum(values / max(values.max(), 1e-30), _SMALLEST) for values in (activations, weights)]
    factors = held[0] ** strength / held[1] ** (1 - strength)
    return (factors / np.exp(np.log(factors).mean())).astype(np.float32)


def _times_inputs(weights: NDArray[np.float32], factors: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    by_group = weights.reshape(groups, -1, *weights.shape[1:])
    shaped = factors.reshape(groups, 1, weights.shape[1], *[1] * (weights.ndim - 2))
    return (by_group * shaped).reshape(weights.shape)


def _divide(graph: Any, node: Any, shares: NDArray[np.float32]) -> Any:  # noqa: ANN401
    """A product with ``shares``, one a channel, before ``node``."""
    source = node.input[0]
    graph.initializer.append(numpy_helper.from_array(shares.reshape(1, -1, 1, 1), f"{source}_shares"))
    node.input[0] = f"{source}_even"
    return onnx.helper.make_node("Mul", [source, f"{source}_shares"], [f"{source}_even"], f"{source}_make_even")


def _store(tensor: Any, values: NDArray[np.float32]) -> None:  # noqa: ANN401
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
