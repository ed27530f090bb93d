"""Bring a foreign graph into the form that conversion and quantisation expect, without changing what it computes.

Constants become initialisers, batch norms become part of the convolution before them, and each node gets its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_EPSILON: Final = 1e-5
"""ONNX's default ``epsilon`` of BatchNormalization."""
_TYPES: Final = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""Attributes of a Constant other than ``value``, and the types of their values."""


def tidy(model: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Change a graph in place; see the module. Its nodes must be in an order in which they can be computed."""
    graph = model.graph
    _constants_to_initialisers(graph)
    _fold_batch_norms(graph)
    _drop_unread_weights(graph)
    _name_nodes(graph)


def _constants_to_initialisers(graph: Any) -> None:  # noqa: ANN401
    """Replace Constant nodes, and Identity nodes that rename weights."""
    known = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    for node in list(graph.node):
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        if outputs.intersection(node.output):
            continue
        values = _values_of(node)
        if values is not None:
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            known.add(node.output[0])
        elif node.op_type == "Identity" and node.input[0] in known:
            renamed[node.output[0]] = node.input[0]
        else:
            continue
        graph.node.remove(node)


def _values_of(node: Any) -> NDArray[Any] | None:  # noqa: ANN401
    """The values of a Constant node of numbers; None for any other node."""
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    (attribute,) = node.attribute
    if attribute.name == "value":
        values: NDArray[Any] = numpy_helper.to_array(attribute.t)
        return values
    if attribute.name not in _TYPES:
        return None
    return np.array(helper.get_attribute_value(attribute), _TYPES[attribute.name])


def _fold_batch_norms(graph: Any) -> None:  # noqa: ANN401
    """Make batch norms part of the float32 convolutions before them, computed in float64."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    convolutions = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    for node in list(graph.node):
        convolution = convolutions.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if convolution is None or readers[node.input[0]] > 1 or len([name for name in node.output if name]) > 1:
            continue
        needed = [*filter(None, convolution.input[1:]), *node.input[1:]]
        if all(name in weights and weights[name].data_type == TensorProto.FLOAT for name in needed):
            graph.initializer.extend(_folded(convolution, node, weights))
            convolution.output[0] = node.output[0]
            graph.node.remove(node)


def _folded(convolution: Any, norm: Any, weights: dict[str, Any]) -> Iterator[Any]:  # noqa: ANN401
    """The weights and the bias of a convolution with the batch norm after it; the convolution reads them then."""

    def values(name: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = numpy_helper.to_array(weights[name]).astype(np.float64)
        return found

    epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), _EPSILON)
    gamma, beta, mean, variance = (values(name) for name in norm.input[1:])
    scale = gamma / np.sqrt(variance + epsilon)
    kernel = values(convolution.input[1])
    bias = values(convolution.input[2]) if len(convolution.input) > 2 and convolution.input[2] else 0.0
    made = (kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), (bias - mean) * scale + beta)
    output = norm.output[0]
    names = [f"{output}/folded-{part}" for part in ("weight", "bias")]
    del convolution.input[1:]
    convolution.input.extend(names)
    for name, array in zip(names, made, strict=True):
        yield numpy_helper.from_array(array.astype(np.float32), name)


def _drop_unread_weights(graph: Any) -> None:  # noqa: ANN401
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _name_nodes(graph: Any) -> None:  # noqa: ANN401
    """Give each node a name of its own: calibration and TensorRT's proof of precision find nodes by name."""
    counts = Counter(node.name for node in graph.node)
    taken = {name for name, count in counts.items() if name and count == 1}
    for node in graph.node:
        if counts[node.name] == 1 and node.name:
            continue
        wanted = name = node.output[0]
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}-{number}"
        node.name = name
        taken.add(name)
