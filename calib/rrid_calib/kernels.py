"""Nodes of an ONNX graph: kernels named, nodes in order."""

from __future__ import annotations

import copy
from typing import Any

import onnx


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
