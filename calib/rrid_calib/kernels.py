"""Convolutions of an ONNX graph: batched products rewritten as convolutions, kernels named, nodes in order."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def products_to_convolutions(graph: Any) -> None:  # noqa: ANN401
    """Replace each MatMul (G, N, C) x constant (G, C, O) by a 1x1 convolution with G groups."""
    # int8 kernels exist for convolutions.
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
    set_nodes(graph, nodes)


def name_kernels(graph: Any) -> None:  # noqa: ANN401
    """Name ``kernel_shape`` on every convolution with constant weights.

    TensorRT 8.6 and 10.0 to 10.3 take the kernel's size from the weights, and cannot where a DequantizeLinear makes
    them.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and "kernel_shape" not in {attribute.name for attribute in node.attribute}:
            kernel = shapes.get(node.input[1], ())[2:]
            if kernel:
                node.attribute.append(onnx.helper.make_attribute("kernel_shape", kernel))


def set_nodes(graph: Any, nodes: list[Any]) -> None:  # noqa: ANN401
    """Replace the graph's nodes by ``nodes``, each one after the nodes that compute its inputs."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    pending, ordered = [copy.deepcopy(node) for node in nodes], []
    while pending:
        ready = [node for node in pending if known.issuperset(node.input)]
        assert ready, "the graph has a cycle"
        for node in ready:
            known.update(node.output)
        ordered += ready
        pending = [node for node in pending if not known.issuperset(node.output)]
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]
