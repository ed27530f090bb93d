"""Convert a float32 graph to float16 with islands of float32, and emulate its arithmetic on a CPU."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rrid_edge.errors import CheckFailedError
from rrid_export.half.islands import LARGEST, float_tensors
from rrid_export.onnx_weights import put_weights, take_weights

_CAST_ENDINGS: Final = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
_BOUNDS: Final = frozenset({"Clip", "Min", "Max"})
"""Operators whose constants are often the largest value of float32. They become the largest one of float16."""


def with_types(model: Any) -> Any:  # noqa: ANN401 - protobuf messages
    """The model with the types and shapes of all its tensors, inferred again."""
    del model.graph.value_info[:]
    weights = take_weights(model)
    result = onnx.shape_inference.infer_shapes(model, data_prop=True)
    put_weights(model, dict(weights))
    put_weights(result, weights)
    return result


def converted(model: Any, kept: Collection[str]) -> Any:  # noqa: ANN401 - protobuf messages
    """A float32 model in float16.

    Args:
        model: the model, as :func:`with_types` returns it. It is changed.
        kept: names of the nodes that stay in float32.

    Raises:
        CheckFailedError: a weight exceeds the range of float16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = model.graph
    own_weights(graph, kept)
    check_weights(graph, kept)
    casts = _cast_between(graph, kept, float_tensors(model))
    # The converter would cast every border and declared tensor to float16 and back, inside the islands too.
    del graph.value_info[:]
    kinds = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.UNDEFINED
    result = convert_float_to_float16(
        model, disable_shape_infer=True, op_block_list=[], node_block_list=[*kept, *casts]
    )
    for value, kind in zip((*result.graph.input, *result.graph.output), kinds, strict=True):
        value.type.tensor_type.elem_type = kind
    return with_types(result)


def own_weights(graph: Any, kept: Collection[str]) -> None:  # noqa: ANN401
    """Give float32 nodes a copy of the weights that float16 nodes read too."""
    shared = {name for node in graph.node if node.name not in kept for name in node.input}
    copies: dict[str, Any] = {}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name in shared:
            copies[tensor.name] = tensor
    made: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.name in kept and name in copies:
                node.input[place] = f"{name}/float32"
                made.add(name)
    for name in made:
        copy = graph.initializer.add()
        copy.CopyFrom(copies[name])
        copy.name = f"{name}/float32"


def check_weights(graph: Any, kept: Collection[str]) -> None:  # noqa: ANN401
    """Refuse weights that float16 cannot hold.

    Raises:
        CheckFailedError: names the weights.
    """
    read = {
        name
        for node in graph.node
        if node.name not in kept
        for name in (node.input[:1] if node.op_type in _BOUNDS else node.input)
    }
    for tensor in graph.initializer:
        if tensor.name in read and tensor.data_type == TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
            if not largest < LARGEST:
                raise CheckFailedError(
                    f"weights {tensor.name[:100]!r} reach {largest:.3g} and exceed float16: expected magnitudes below "
                    "65504; nothing was written; use the float32 file"
                )


def _cast_between(graph: Any, kept: Collection[str], floats: Collection[str]) -> list[str]:  # noqa: ANN401
    """Insert casts between float32 and float16 nodes; returns the names of those to float32."""
    makers = {name: node.name in kept for node in graph.node for name in node.output if name in floats}
    nodes, names = [], []
    made: dict[tuple[str, int], str] = {}
    for node in graph.node:
        is_float32 = node.name in kept
        kind = TensorProto.FLOAT if is_float32 else TensorProto.FLOAT16
        for place, name in enumerate(node.input):
            if makers.get(name, is_float32) == is_float32:
                continue
            if (name, kind) not in made:
                made[name, kind] = f"{name}/{_CAST_ENDINGS[kind]}"
                nodes.append(helper.make_node("Cast", [name], [made[name, kind]], made[name, kind], to=kind))
                names += [nodes[-1].name] if is_float32 else []
            node.input[place] = made[name, kind]
        nodes.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    return names


def emulated(model: Any) -> Any:  # noqa: ANN401 - protobuf messages
    """A float32 model that computes what a device computes with a float16 file.

    A CPU computes float16 operations in float32 and does not round between them. Here the result of every operation is
    rounded to float16. Sums inside an operation are in float32, as in a GPU's matrix units.

    Args:
        model: a float16 model with value infos.
    """
    result = type(model)()
    result.CopyFrom(model)
    graph = result.graph
    halves = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for tensor in graph.initializer:
        _widen(tensor)
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            _widen(attribute.t)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}/exact"
                nodes.append(helper.make_node("Cast", [f"{name}/exact"], [f"{name}/rounded"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}/rounded"], [name], to=TensorProto.FLOAT))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)
    return result


def _widen(tensor: Any) -> None:  # noqa: ANN401
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
