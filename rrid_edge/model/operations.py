"""How much a network computes: multiplications and additions of one image, counted in its ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_graph import GraphNode, OnnxGraph, read_graph
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.shapes import Shape, Shapes, find_shapes
from rrid_edge.model.spec import HOW_MADE, INPUT_NAME

_PASSING = frozenset(("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose"))
"""Operators after which a weight is still a weight."""


@dataclass(frozen=True)
class Work:
    """What one image costs.

    Attributes:
        operations: multiplications and additions of convolutions and matrix products, all views of the image together.
            A multiply-add is two operations. Everything else is 1 to 2 % of a ResNet, and is not counted.
        weights: values of their weights. An engine reads them for every call.
    """

    operations: int
    weights: int


def work_of(path: Path) -> Work:
    """Count the work of one image in an ONNX file.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is damaged, or has a layer whose shape is not known.
    """
    spec, graph = read_spec(path), read_graph(path)
    try:
        return count_work(graph, {INPUT_NAME: (1, *spec.input_shape)})
    except (ValueError, IndexError, ZeroDivisionError) as error:  # a graph of another form
        raise ModelFileError(
            f"{printable(path)}: its operations cannot be counted ({error}); export it again with: {HOW_MADE}"
        ) from error


def count_work(graph: OnnxGraph, inputs: Mapping[str, Shape]) -> Work:
    """Count the work of a graph whose inputs have these shapes.

    Raises:
        ValueError: a shape is unknown, or shapes contradict each other.
    """
    shapes, weights = find_shapes(graph, inputs), set(graph.constants)
    operations, read = 0, dict[str, int]()
    for node in graph.nodes:
        if node.operator in _PASSING and node.inputs and node.inputs[0] in weights:
            weights.update(node.outputs)
        if node.operator not in ("Conv", "MatMul", "Gemm"):
            continue
        unknown = next((name for name in (*node.inputs[:2], *node.outputs) if name not in shapes), None)
        if unknown is not None:
            raise ValueError(f"{node.operator} {printable(node.name)}: the shape of {printable(unknown)} is unknown")
        operations += _operations(node, shapes)
        read |= {name: math.prod(shapes[name]) for name in node.inputs[:2] if name in weights}
    return Work(operations, sum(read.values()))


def _operations(node: GraphNode, shapes: Shapes) -> int:
    first, second = (shapes[name] for name in node.inputs[:2])
    if node.operator == "Conv":
        terms = math.prod(second[1:])  # channels of one group, and the window
    elif node.operator == "Gemm" and node.attributes.get("transA"):
        terms = first[0]
    else:
        terms = first[-1]
    return 2 * math.prod(shapes[node.outputs[0]]) * terms
