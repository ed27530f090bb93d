"""Choose the nodes of a graph that stay in float32 when it is converted to float16.

Five kinds of nodes stay in float32: those before the first products, which scale the pixels; those after the last
products, with the L2 norm; sums and squares, with what divides by them; Softmax and its kind; and nodes whose values
come near the largest one of float16. Reasons and measurements: ``docs/decisions/precision.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.progress import step

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LARGEST: Final = 65504.0
"""The largest value of float16."""
LIMIT: Final = LARGEST / 8
"""Values above it stay in float32: other crops may give larger ones than those that were measured."""
SMALLEST: Final = 2.0**-14
"""The smallest normal value of float16. Tensors that stay below it keep fewer than 11 bits."""
_NORMS: Final = frozenset(
    {"LpNormalization", "InstanceNormalization", "LayerNormalization", "MeanVarianceNormalization", "Softmax"}
    | {"LogSoftmax"}
)
_SUMS: Final = frozenset(
    {"ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "CumSum"}
    | {"Exp", "Pow", "Sqrt", "Reciprocal"}
)
"""Operators whose results can leave the range of float16."""
_FOLLOW: Final = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Pow", "Max", "Min", "Clip", "Sum", "ReduceMean", "Identity"}
    | {"Expand", "Unsqueeze", "Squeeze", "Reshape", "Cast", "GlobalAveragePool", "AveragePool"}
    | _SUMS
)
"""What may stand between a sum and the division by it, or a power and its root."""
_END: Final = frozenset({"Div", "Mul"}) | _NORMS
"""The last node of such a chain."""
_MEASURED_IMAGES: Final = 32
_BATCH: Final = 2


@step("looking for layers that float16 cannot hold")
def float32_nodes(model: Any, images: NDArray[np.uint8]) -> set[str]:  # noqa: ANN401 - a protobuf message
    """Names of the nodes that stay in float32.

    Args:
        model: a float32 graph with value infos; each node has a name of its own.
        images: images to measure on, uint8 (N, height, width, 3).
    """
    nodes = list(model.graph.node)
    products = [node for node in nodes if node.op_type in PRODUCTS]
    behind, ahead = _reached(nodes, products), _reached([*reversed(nodes)], products, upwards=True)
    kept = {node.name for node in nodes if node.name not in behind or node.name not in ahead}
    kept |= set(_sums(nodes))
    return kept | set(_out_of_range(model, nodes, kept, images))


def float_tensors(model: Any) -> set[str]:  # noqa: ANN401 - a protobuf message
    """Names of the float32 tensors that nodes make."""
    graph = model.graph
    return {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }


def _reached(nodes: Iterable[Any], starts: Collection[Any], *, upwards: bool = False) -> set[str]:
    """Names of the nodes that depend on ``starts``, or with ``upwards`` those that ``starts`` depend on; with starts.

    The nodes come in an order in which they can be reached.
    """
    names, tensors = {node.name for node in starts}, set[str]()
    for node in nodes:
        before, after = (node.output, node.input) if upwards else (node.input, node.output)
        if node.name in names or tensors.intersection(filter(None, before)):
            names.add(node.name)
            tensors.update(filter(None, after))
    return names


def _sums(nodes: Iterable[Any]) -> Iterator[str]:
    """Names of nodes that sum or square, and of those that follow them up to the division."""
    growing: set[str] = set()
    for node in nodes:
        squares = node.op_type == "Mul" and len(set(node.input)) == 1
        follows = node.op_type in _FOLLOW and growing.intersection(node.input)
        if squares or follows or node.op_type in _SUMS | _NORMS:
            yield node.name
            if squares or node.op_type not in _END:
                growing.update(node.output)


def _out_of_range(
    model: Any,  # noqa: ANN401
    nodes: Collection[Any],
    kept: Collection[str],
    images: NDArray[np.uint8],
) -> Iterator[str]:
    """Names of nodes that make or read a tensor above :data:`LIMIT`, or one that stays below :data:`SMALLEST`."""
    floats = float_tensors(model)
    asked = {name for node in nodes if node.name not in kept for name in (*node.input, *node.output)} & floats
    largest = _largest(model, asked, images)
    outside = {name for name, value in largest.items() if value != 0 and not SMALLEST <= value <= LIMIT}
    for node in nodes:
        if outside.intersection(node.input) or outside.intersection(node.output):
            yield node.name


def _largest(model: Any, names: Collection[str], images: NDArray[np.uint8]) -> Mapping[str, float]:  # noqa: ANN401
    """The largest magnitude of each tensor over some images; NaN if a value is none."""
    watched = type(model)()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session, found = MemorySession(watched.SerializeToString()), dict.fromkeys(names, 0.0)
    for start in range(0, min(len(images), _MEASURED_IMAGES), _BATCH):
        for name, values in zip(names, session.values([*names], images[start : start + _BATCH]), strict=True):
            found[name] = float(np.maximum(found[name], np.abs(values).max(initial=0)))
    return found
