"""Write explicit int8 into an ONNX graph: QuantizeLinear and DequantizeLinear nodes, and int8 weights.

All int8 is symmetric with zero point 0. Activations have one scale per tensor, weights one scale per output channel.
Biases, scaling of the pixels, pooling, the sum of the two views and the norm stay in float32. The reasons for this form
and for the positions of the nodes: ``docs/decisions/int8-graph.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_calib.kernels import name_kernels, products_to_convolutions, set_nodes
from rrid_calib.weights import LARGEST, quantised_weights, weight_steps
from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_header import read_model_header


@dataclass(frozen=True)
class Layer:
    """A convolution that can be quantised.

    Attributes:
        name: name of the node.
        source: name of its input tensor.
        weight: name of its weights.
        residual: name of the tensor in the residual add after this layer, or None if none follows.
        head: whether it is one of the head's batched projections, a small part of all multiplications.
    """

    name: str
    source: str
    weight: str
    residual: str | None
    head: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the activations that are quantised for this layer."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


def read_graph(path: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """Read a float32 model, and rewrite the head's batched matrix products as grouped 1x1 convolutions.

    Raises:
        ModelFileError: the file is not ONNX or is damaged.
    """
    read_model_header(path)  # refuses weights outside the folder, which onnx would open
    try:
        model = onnx.load_model(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, the checker's and the system's own classes
        raise ModelFileError(
            f"{printable(path)}: not an ONNX file, or damaged ({str(error).splitlines()[0]}); export it again with: "
            "rrid-edge export CHECKPOINT"
        ) from error
    products_to_convolutions(model.graph)
    return model


def int8_layers(model: Any) -> list[Layer]:  # noqa: ANN401
    """All convolutions with constant weights, in graph order."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    residuals: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add" and not constants.intersection(node.input):
            convolved = [name for name in node.input if name in producers and producers[name].op_type == "Conv"]
            if convolved:
                main = convolved[0]
                residuals[main] = next(name for name in node.input if name != main)
    return [
        Layer(
            node.name,
            node.input[0],
            node.input[1],
            residuals.get(node.output[0]),
            any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute),
        )
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in constants
    ]


def weight_sizes(model: Any) -> dict[str, int]:  # noqa: ANN401
    """Layer name -> number of weights."""
    counts = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    return {layer.name: counts[layer.weight] for layer in int8_layers(model)}


def quantised(
    model: Any,  # noqa: ANN401
    scales: Mapping[str, float],
    float_layers: Collection[str] = (),
    two_step_layers: Collection[str] = (),
    *,
    float_residuals: bool = False,
    rounded: Mapping[str, NDArray[np.int8]] | None = None,
) -> Any:  # noqa: ANN401
    """Copy ``model`` with explicit int8.

    Args:
        model: a model from :func:`read_graph`.
        scales: scale (value of one int8 step) of each activation in :attr:`Layer.tensors`.
        float_layers: names of layers that stay in float32.
        two_step_layers: names of layers whose input is quantised in two steps. The rounding error of the first step is
            quantised with a 254 times smaller scale and goes through the same int8 weights. This doubles the layer's
            work and removes nearly all error of its input.
        float_residuals: add residuals in float32. This is more accurate, but convolution and residual add are then
            separate kernels.
        rounded: weight name -> int8 weights, with the scales of :func:`weight_steps`. Other weights are rounded to the
            nearest step.

    Returns:
        The int8 model.
    """
    result = copy.deepcopy(model)
    name_kernels(result.graph)
    layers = [layer for layer in int8_layers(result) if layer.name not in float_layers]
    if float_residuals:
        layers = [replace(layer, residual=None) for layer in layers]
    rewriter = _Rewriter(result.graph, scales, rounded or {})
    for layer in layers:
        rewriter.quantise(layer, two_steps=layer.name in two_step_layers)
    rewriter.finish()
    return result


class _Rewriter:
    """Rewrites a float32 graph to int8, layer by layer; :meth:`finish` puts the new nodes into the graph."""

    def __init__(
        self,
        graph: Any,  # noqa: ANN401
        scales: Mapping[str, float],
        rounded: Mapping[str, NDArray[np.int8]],
    ) -> None:
        self._graph, self._scales, self._rounded = graph, scales, rounded
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._output_of = {node.name: node.output[0] for node in graph.node}
        self._adder_of = {name: node.name for node in graph.node if node.op_type == "Add" for name in node.input}
        self._new_tensors = [numpy_helper.from_array(np.zeros((), np.int8), "int8_zero")]
        self._new_nodes: list[Any] = []
        self._new_inputs: dict[tuple[str, str], str] = {}  # (node, tensor) -> tensor that the node reads instead
        self._quantised_activations: set[str] = set()
        self._quantised_weights: set[str] = set()

    def quantise(self, layer: Layer, *, two_steps: bool) -> None:
        """Quantise weights and activations of one layer."""
        for tensor in layer.tensors:
            self._quantise_activation(tensor)
        self._new_inputs[layer.name, layer.source] = f"{layer.source}_dequantised"
        if layer.residual is not None:
            adder = self._adder_of[self._output_of[layer.name]]
            self._new_inputs[adder, layer.residual] = f"{layer.residual}_dequantised"
        weight = self._quantise_weight(layer.weight)
        self._new_inputs[layer.name, layer.weight] = weight
        if two_steps:
            step = self._scales[layer.source] / (2 * LARGEST)
            self._new_tensors.append(_scalar(f"{layer.name}_rest_scale", step))
            self._new_nodes += _second_step(self._graph, layer, f"{layer.source}_dequantised", weight)

    def finish(self) -> None:
        """Replace weights and nodes of the graph."""
        for node in self._graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = self._new_inputs.get((node.name, name), name)
        kept = [tensor for tensor in self._graph.initializer if tensor.name not in self._quantised_weights]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._new_tensors])
        set_nodes(self._graph, [*self._graph.node, *self._new_nodes])

    def _quantise_activation(self, tensor: str) -> None:
        if tensor not in self._quantised_activations:
            self._quantised_activations.add(tensor)
            self._new_tensors.append(_scalar(f"{tensor}_scale", self._scales[tensor]))
            self._new_nodes += _quantise_dequantise(tensor, f"{tensor}_scale")

    def _quantise_weight(self, name: str) -> str:
        """Store a weight as int8, with its DequantizeLinear node: name of the dequantised weight."""
        exact = numpy_helper.to_array(self._weights[name])
        known = self._rounded.get(name)
        values, steps = quantised_weights(exact) if known is None else (known, weight_steps(exact))
        self._new_tensors += [
            numpy_helper.from_array(values, f"{name}_int8"),
            numpy_helper.from_array(steps, f"{name}_scale"),
            numpy_helper.from_array(np.zeros(len(steps), np.int8), f"{name}_zero"),
        ]
        inputs, output = [f"{name}_int8", f"{name}_scale", f"{name}_zero"], f"{name}_dequantised"
        node = onnx.helper.make_node("DequantizeLinear", inputs, [output], f"{name}_dequantise", axis=0)
        self._new_nodes.append(node)
        self._quantised_weights.add(name)
        return output


def _second_step(graph: Any, layer: Layer, first_step: str, weight: str) -> list[Any]:  # noqa: ANN401
    """Quantise and convolve what ``first_step`` loses of the layer's input, and add it to the layer's output.

    Args:
        graph: the graph; the output of the layer's node is renamed.
        layer: the layer.
        first_step: name of the layer's input, quantised once and dequantised.
        weight: name of the layer's dequantised weights.

    Returns:
        The new nodes.
    """
    make, remainder = onnx.helper.make_node, f"{layer.name}_rest"
    node = next(node for node in graph.node if node.name == layer.name)
    second = copy.deepcopy(node)
    second.name, output = f"{layer.name}_again", node.output[0]
    del second.input[:]
    second.input.extend([f"{remainder}_dequantised", weight])
    second.output[0] = f"{remainder}_convolved"
    node.output[0] = f"{output}_rounded"
    return [
        make("Sub", [layer.source, first_step], [remainder], f"{remainder}_take"),
        *_quantise_dequantise(remainder, f"{remainder}_scale"),
        second,
        make("Add", [node.output[0], second.output[0]], [output], f"{remainder}_add"),
    ]


def _quantise_dequantise(tensor: str, scale: str) -> list[Any]:
    """QuantizeLinear and DequantizeLinear nodes of an activation."""
    make = onnx.helper.make_node
    return [
        make("QuantizeLinear", [tensor, scale, "int8_zero"], [f"{tensor}_int8"], f"{tensor}_quantise"),
        make(
            "DequantizeLinear",
            [f"{tensor}_int8", scale, "int8_zero"],
            [f"{tensor}_dequantised"],
            f"{tensor}_dequantise",
        ),
    ]


def _scalar(name: str, value: float) -> Any:  # noqa: ANN401
    return numpy_helper.from_array(np.array(value, np.float32), name)
