"""Explicit int8 in an ONNX graph: where QuantizeLinear and DequantizeLinear stand, and what the weights become.

Symmetric int8 with zero point 0 throughout (the one form that TensorRT, OpenVINO and ONNX Runtime share): one scale a
tensor for activations, one scale an output channel for weights. Biases, scaling of the pixels, pooling, the sum of the two
views and the norm stay in float32.

Placement follows the rule that lets a runtime fuse a block into one kernel: the input of every convolution is quantised,
and of a residual addition only the residual, so that convolution, addition, ReLU and the next quantisation are one step.
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

from rrid_edge.errors import ModelFileError, printable

LARGEST = 127
"""Quantised values lie in -127 .. 127: -128 has no counterpart and is left out."""


@dataclass(frozen=True)
class Layer:
    """A convolution that can be quantised.

    Attributes:
        name: the node's name.
        source: name of its input tensor.
        weight: name of its weights.
        residual: name of the tensor that is added to its output, where it ends a residual block, or None.
        head: one of the head's batched projections, which are a small part of the work.
    """

    name: str
    source: str
    weight: str
    residual: str | None
    head: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activations that are quantised for this layer."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


def read_graph(path: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """The model of a float32 file, its head's batched products written as grouped 1x1 convolutions.

    Raises:
        ModelFileError: the file cannot be read as ONNX.
    """
    try:
        model = onnx.load_model(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, the checker's and the system's own classes
        raise ModelFileError(
            f"{printable(path)}: not an ONNX file, or damaged ({str(error).splitlines()[0]}); export it again with: "
            "rrid-edge export CHECKPOINT"
        ) from error
    _group_products(model.graph)
    return model


def int8_layers(model: Any) -> list[Layer]:  # noqa: ANN401
    """All convolutions with constant weights, in the order of the graph."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    residuals: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add" and not constants.intersection(node.input):
            convolved = [name for name in node.input if name in makers and makers[name].op_type == "Conv"]
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
    """Number of weights of every layer, by its name."""
    counts = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    return {layer.name: counts[layer.weight] for layer in int8_layers(model)}


def quantised(
    model: Any,  # noqa: ANN401
    scales: Mapping[str, float],
    floating: Collection[str] = (),
    fine: Collection[str] = (),
    *,
    float_residuals: bool = False,
    rounded: Mapping[str, NDArray[np.int8]] | None = None,
) -> Any:  # noqa: ANN401
    """A copy of ``model`` with explicit int8.

    Args:
        model: from :func:`read_graph`.
        scales: of every activation of every layer: the value that one step of int8 stands for.
        floating: names of layers left in float32.
        fine: names of layers whose input is quantised in two steps: what the first one rounds away is quantised once more,
            254 times finer, and goes through the same int8 weights. Twice the work, and all but no error from the input.
        float_residuals: add residuals in float32: more accurate, but addition and convolution are no longer one kernel.
        rounded: int8 weights by the names of the weights, on the steps of :func:`weight_steps`; others are rounded to the
            nearest step.
    """
    rounded = rounded or {}
    result = copy.deepcopy(model)
    layers = [layer for layer in int8_layers(result) if layer.name not in floating]
    if float_residuals:
        layers = [replace(layer, residual=None) for layer in layers]
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    zero = numpy_helper.from_array(np.zeros((), np.int8), "int8_zero")
    added_tensors, added_nodes = [zero], []
    rename: dict[tuple[str, str], str] = {}  # (node, input) -> tensor after dequantisation
    done: set[str] = set()
    adders = {name: node.name for node in graph.node if node.op_type == "Add" for name in node.input}
    outputs = {node.name: node.output[0] for node in graph.node}
    for layer in layers:
        for tensor in layer.tensors:
            if tensor not in done:
                done.add(tensor)
                added_tensors.append(_scalar(f"{tensor}_scale", scales[tensor]))
                added_nodes += _pair(tensor, f"{tensor}_scale")
        rename[layer.name, layer.source] = f"{layer.source}_dequantised"
        if layer.residual is not None:
            rename[adders[outputs[layer.name]], layer.residual] = f"{layer.residual}_dequantised"
        exact = numpy_helper.to_array(weights[layer.weight])
        known = rounded.get(layer.weight)
        values, steps = quantised_weights(exact) if known is None else (known, weight_steps(exact))
        added_tensors += [
            numpy_helper.from_array(values, f"{layer.weight}_int8"),
            numpy_helper.from_array(steps, f"{layer.weight}_scale"),
            numpy_helper.from_array(np.zeros(len(steps), np.int8), f"{layer.weight}_zero"),
        ]
        names = [f"{layer.weight}_int8", f"{layer.weight}_scale", f"{layer.weight}_zero"]
        dequantised = f"{layer.weight}_dequantised"
        added_nodes.append(
            onnx.helper.make_node("DequantizeLinear", names, [dequantised], f"{layer.weight}_dequantise", axis=0)
        )
        rename[layer.name, layer.weight] = dequantised
        if layer.name in fine:
            step = scales[layer.source] / (2 * LARGEST)
            added_tensors.append(_scalar(f"{layer.name}_rest_scale", step))
            added_nodes += _second_step(graph, layer, f"{layer.source}_dequantised", dequantised)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = rename.get((node.name, name), name)
    replaced = {layer.weight for layer in layers}
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added_tensors])
    _set_nodes(graph, [*graph.node, *added_nodes])
    return result


def _second_step(graph: Any, layer: Layer, rounded: str, weight: str) -> list[Any]:  # noqa: ANN401
    """What ``rounded`` leaves of the layer's input, quantised and convolved, added to the layer's output."""
    make, rest = onnx.helper.make_node, f"{layer.name}_rest"
    node = next(node for node in graph.node if node.name == layer.name)
    again = copy.deepcopy(node)
    again.name, output = f"{layer.name}_again", node.output[0]
    del again.input[:]
    again.input.extend([f"{rest}_dequantised", weight])
    again.output[0] = f"{rest}_convolved"
    node.output[0] = f"{output}_rounded"
    return [
        make("Sub", [layer.source, rounded], [rest], f"{rest}_take"),
        *_pair(rest, f"{rest}_scale"),
        again,
        make("Add", [node.output[0], again.output[0]], [output], f"{rest}_add"),
    ]


def weight_steps(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The step of every output channel of weights (outputs, ...): largest magnitude of the channel over 127."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1)
    steps: NDArray[np.float32] = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(LARGEST)
    return steps


def quantised_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 weights, rounded to the nearest step, and the step of every output channel.

    Args:
        weights: float32, (outputs, ...).

    Returns:
        int8 of the same shape, and float32 (outputs,).
    """
    steps = weight_steps(weights)
    shaped = steps.reshape(-1, *[1] * (weights.ndim - 1))
    return np.clip(np.rint(weights / shaped), -LARGEST, LARGEST).astype(np.int8), steps


def _pair(tensor: str, scale: str) -> list[Any]:
    """QuantizeLinear and DequantizeLinear of an activation."""
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


def _group_products(graph: Any) -> None:  # noqa: ANN401
    """MatMul (G, N, C) x constant (G, C, O) as a 1x1 convolution of G groups: int8 kernels know convolutions."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    make = onnx.helper.make_node
    for node in graph.node:
        constant = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if constant is None or len(constant.dims) != 3:
            nodes.append(node)
            continue
        groups, inputs, outputs = constant.dims
        name, values = node.output[0], numpy_helper.to_array(constant)
        flat = values.transpose(0, 2, 1).reshape(groups * outputs, inputs, 1, 1)
        graph.initializer.remove(constant)
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.ascontiguousarray(flat), node.input[1]),
                numpy_helper.from_array(np.array([0, groups * inputs, 1, 1], np.int64), f"{name}_as_channels"),
                numpy_helper.from_array(np.array([0, groups, outputs], np.int64), f"{name}_as_groups"),
            ]
        )
        nodes += [
            make("Transpose", [node.input[0]], [f"{name}_turned"], f"{name}_turn", perm=[1, 0, 2]),
            make("Reshape", [f"{name}_turned", f"{name}_as_channels"], [f"{name}_channels"], f"{name}_to_channels"),
            make("Conv", [f"{name}_channels", node.input[1]], [f"{name}_convolved"], node.name, group=groups),
            make("Reshape", [f"{name}_convolved", f"{name}_as_groups"], [f"{name}_grouped"], f"{name}_to_groups"),
            make("Transpose", [f"{name}_grouped"], [name], f"{name}_turn_back", perm=[1, 0, 2]),
        ]
    _set_nodes(graph, nodes)


def _set_nodes(graph: Any, nodes: list[Any]) -> None:  # noqa: ANN401
    """Put ``nodes`` into the graph in an order in which every input exists."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    waiting, ordered = [copy.deepcopy(node) for node in nodes], []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        assert ready, "the graph has a circle"
        for node in ready:
            known.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]
