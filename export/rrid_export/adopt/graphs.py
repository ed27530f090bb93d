"""Load a foreign graph for changes: what is not needed is dropped, and its input takes any batch of one size."""

from __future__ import annotations

import graphlib
import math
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, checker, external_data_helper, helper, numpy_helper, version_converter

from rrid_edge.errors import ModelFileError
from rrid_edge.model.operator_rules import NEWEST_OPSET
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import MOST_WEIGHT_BYTES, ForeignNetwork, refused
from rrid_export.onnx_weights import put_weights, take_weights

BATCH = "batch"
MOST_VALUES = 1 << 28
"""Values of one image's largest tensor: 1 GiB in float32. Larger claims are refused before they are computed."""


def load_network(network: ForeignNetwork) -> Any:  # noqa: ANN401 - a protobuf message
    """The graph as its file has it, with all weights inside, and its nodes in an order of computation.

    Raises:
        ModelFileError: the file is not valid ONNX.
    """
    try:
        model = onnx.load_model(str(network.path), load_external_data=False)
        _check_external(network.path, model)
        onnx.load_external_data_for_model(model, str(network.path.parent))
        sort_nodes(model.graph)
        checker.check_model(model)
    except (MemoryError, ModelFileError):
        raise
    except Exception as error:  # protobuf's, onnx's and the system's
        raise refused(network.path, f"not valid ONNX ({_first_line(error)})") from error
    return model


def _check_external(path: Path, model: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Refuse weights beside the file that take more bytes there than their shape has: all would be read."""
    total = 0
    attributes = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*model.graph.initializer, *attributes):
        if not external_data_helper.uses_external_data(tensor):
            continue
        place = external_data_helper.ExternalDataInfo(tensor)
        file, start = path.parent / place.location, place.offset or 0
        taken = place.length or file.stat().st_size - start
        expected = math.ceil(math.prod(tensor.dims) * _bits(tensor) / 8)
        total += expected
        if total > MOST_WEIGHT_BYTES:
            raise refused(
                path, f"weights {tensor.name[:100]!r} claim the shape {list(tensor.dims)[:8]}, expected 2 GB at most"
            )
        if start < 0 or taken != expected:
            raise refused(
                path,
                f"weights {tensor.name[:100]!r} take {taken:,} bytes of {place.location[:100]!r} from {start:,}, "
                f"expected {expected:,}",
            )


def _bits(tensor: Any) -> int:  # noqa: ANN401 - a protobuf message
    """Bits of a value."""
    name = TensorProto.DataType.Name(tensor.data_type)
    return (
        4 if name in ("INT4", "UINT4", "FLOAT4E2M1") else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    )


def prepared(network: ForeignNetwork, model: Any, facts: Facts) -> Any:  # noqa: ANN401 - protobuf messages
    """The part of the graph that computes the descriptor, for any batch of images of one size.

    The declared shapes are changed, no node is. Whether the nodes follow must be proved by running them.

    Args:
        network: the file.
        model: what :func:`load_network` returned; it is changed.
        facts: what the network is fed.

    Raises:
        ModelFileError: the operator set cannot be raised, or a tensor is too large.
    """
    _keep_what_is_used(model.graph, facts.preprocessing.output)
    declare(model.graph.input[0], (BATCH, *facts.fed_shape))
    declare(model.graph.output[0], (BATCH, None))
    del model.graph.value_info[:]
    for node in model.graph.node:  # PyTorch writes stack traces there, with the paths of somebody's machine
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    weights = take_weights(model)
    if network.opset != NEWEST_OPSET:
        model = _converted(network.path, model)
    put_weights(model, weights)
    return model


def dimension_of(path: Path, model: Any) -> int | None:  # noqa: ANN401 - a protobuf message
    """Values of a descriptor as far as the shapes tell; None if they do not.

    Raises:
        ModelFileError: the shapes contradict each other, have a fixed batch, or a tensor is too large.
    """
    weights = take_weights(model)
    try:
        known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:
        raise refused(path, f"its shapes contradict each other ({_first_line(error)})") from error
    finally:
        put_weights(model, weights)
    for value in known.value_info:
        if _values(value) > MOST_VALUES:
            raise refused(path, f"tensor {value.name[:100]!r} would have {_values(value):,} values per image")
    batch, axis = known.output[0].type.tensor_type.shape.dim
    if batch.HasField("dim_value"):
        culprit = operator_in_the_way(model) or "the output has a fixed batch"
        raise refused(path, f"{culprit}, expected any batch")
    return int(axis.dim_value) if axis.HasField("dim_value") else None


def _converted(path: Path, model: Any) -> Any:  # noqa: ANN401 - protobuf messages
    """The graph in the operator set of this package. A newer one stays if there is no way back."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in model.graph.node:  # a default of operator set 18 that onnx 1.23 leaves behind on the way back
        for attribute in [item for item in node.attribute if item.name == "noop_with_empty_axes" and not item.i]:
            node.attribute.remove(attribute)
    try:
        return version_converter.convert_version(model, NEWEST_OPSET)
    except Exception as error:
        if opset > NEWEST_OPSET:
            return model
        raise refused(
            path, f"operator set {opset} cannot be raised to {NEWEST_OPSET} ({_first_line(error)})"
        ) from error


def sort_nodes(graph: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Put nodes into an order of computation, if they are not in one. There is one: cycles were refused before."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = {index: {makers[name] for name in node.input if name in makers} for index, node in enumerate(graph.node)}
    if all(maker < index for index, found in needs.items() for maker in found):
        return
    order = graphlib.TopologicalSorter(needs).static_order()
    ordered = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(ordered)


def _keep_what_is_used(graph: Any, output: str) -> None:  # noqa: ANN401 - a protobuf message
    """Drop other outputs, and nodes and weights that the output does not need."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            needed.update(node.input)
    found = {value.name: value for value in graph.output}
    only = onnx.ValueInfoProto.FromString(found[output].SerializeToString())
    weights = [tensor for tensor in graph.initializer if tensor.name not in needed]
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name in names]
    for tensor in weights:
        graph.initializer.remove(tensor)
    for value in inputs:  # old files declare weights as inputs too
        graph.input.remove(value)
    del graph.node[:], graph.output[:]
    graph.node.extend(reversed(kept))
    graph.output.append(only)


def declare(value: Any, sizes: tuple[str | int | None, ...]) -> None:  # noqa: ANN401 - a protobuf message
    """Declare the shape of an input or output.

    Args:
        value: the input or output.
        sizes: for each axis a size, the name of one, or None.
    """
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        axis = shape.dim.add()
        if isinstance(size, str):
            axis.dim_param = size
        elif size is not None:
            axis.dim_value = size


def _values(value: Any) -> int:  # noqa: ANN401 - a protobuf message
    """Values of a tensor for one image; 0 where a size is not known."""
    sizes = [axis.dim_value or int(axis.dim_param == BATCH) for axis in value.type.tensor_type.shape.dim]
    return math.prod(sizes)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def precision_of(model: Any) -> str:  # noqa: ANN401 - a protobuf message
    """How a network stores most of its weights: ``fp32``, ``fp16``, or ``int8`` if it quantises."""
    if any(
        node.op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node
    ):
        return "int8"
    counts = {TensorProto.FLOAT16: 0, TensorProto.FLOAT: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in counts:
            counts[tensor.data_type] += math.prod(tensor.dims)
    return "fp16" if counts[TensorProto.FLOAT16] > counts[TensorProto.FLOAT] else "fp32"


def operator_in_the_way(model: Any) -> str:  # noqa: ANN401 - a protobuf message
    """The first node that computes a shape for one batch size only, for messages; empty if none is found."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            constants.update(dict.fromkeys(node.output, *found) if found else {})
        shape = constants.get(node.input[1]) if node.op_type in ("Reshape", "Expand") else None
        if shape is not None and len(sizes := numpy_helper.to_array(shape).reshape(-1)) and sizes[0] > 0:
            return f"operator {node.op_type} (node {(node.name or node.output[0])[:100]!r}) has a fixed batch"
    return ""
