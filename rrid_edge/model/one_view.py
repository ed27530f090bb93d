"""A model without its mirrored view, made from the file of the model with it.

The exported graph puts each image and its mirror side by side (Concat), and averages their features in the end (Reshape
to two views, sum). The changed graph computes the image alone: as ``rrid-edge export --no-flip`` writes it, up to the
order of rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_graph import GraphNode, OnnxGraph, parse_graph
from rrid_edge.model.onnx_writing import tensor
from rrid_edge.model.protobuf import encoded, encoded_number, fields, text
from rrid_edge.model.spec import ADOPTED, RRID, ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec

_MADE_WITH_ONE_VIEW: Final = {
    RRID: "rrid-edge export CHECKPOINT --no-flip",
    ADOPTED: "rrid-edge adopt FILE --no-flip",
}
_LAYOUT = frozenset(("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose", "Unsqueeze"))
_Change = Callable[[memoryview], bytes | memoryview]
_GRAPH, _NODE, _INITIALISER, _NODE_INPUT, _TENSOR_NAME = 7, 1, 5, 1, 8


def write_one_view(source: Path, target: Path) -> ModelSpec:
    """Write the model of ``source`` without its mirrored view.

    The fingerprint of a real export covers the weights of the trained network, which are not at hand. The file gets one
    of its own, so that nobody takes its descriptors for those of ``source`` or of an export.

    Returns:
        The spec of ``target``.

    Raises:
        UsageError: ``source`` does not exist.
        ModelFileError: ``source`` is damaged, has one view already, or its views are joined in another way.
    """
    spec, content = read_checked_spec(source), source.read_bytes()
    if not spec.flip:
        raise ModelFileError(f"{printable(source)}: it has one view already: expected a model with a mirrored view")
    try:
        changed = without_mirror(memoryview(content), spec.dimension)
    except ValueError as error:
        raise ModelFileError(
            f"{printable(source)}: its mirrored view cannot be taken out ({error}); make the model with: "
            f"{_MADE_WITH_ONE_VIEW[spec.family]}"
        ) from error
    mark = hashlib.sha256(f"one view of {spec.fingerprint}".encode()).hexdigest()
    one = replace(spec, flip=False, fingerprint=mark)
    target.write_bytes(contract_file(changed, one))
    return one


def without_mirror(model: memoryview, dimension: int) -> bytes:
    """A serialised model without its mirrored view.

    Args:
        model: the serialised model.
        dimension: values of a descriptor.

    Raises:
        ValueError: the model is damaged, or does not join its views as the export does.
    """
    graph = parse_graph(model)
    joint, mirrored = _joint(graph)
    shape = _view_shape(graph, dimension)
    one_view = tensor(shape, np.array([-1, 1, dimension], np.int64))

    def node(view: memoryview) -> bytes | memoryview:
        return _without_input(view, mirrored) if _first_output(view) == joint else view

    def initialiser(view: memoryview) -> bytes | memoryview:
        named = any(number == _TENSOR_NAME and _is(value, shape) for number, value in fields(view))
        return one_view if named else view

    changes: dict[int, _Change] = {_NODE: node, _INITIALISER: initialiser}
    return _copied(model, {_GRAPH: lambda view: _copied(view, changes)})


def _joint(graph: OnnxGraph) -> tuple[str, str]:
    """Output of the node that joins the views, and its input with the mirrored one."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    found = []
    for node in graph.nodes:
        if node.operator == "Concat" and len(node.inputs) == 2:
            mirrored = [name for name in node.inputs if _is_mirrored(graph, makers, name)]
            found += [(node.outputs[0], mirrored[0])] if len(mirrored) == 1 else []
    if len(found) != 1:
        raise ValueError(f"{len(found)} places where an image and its mirror are joined: expected one")
    return found[0]


def _is_mirrored(graph: OnnxGraph, makers: dict[str, GraphNode], name: str) -> bool:
    """Whether a tensor was sliced backwards since a node computed it."""
    while (node := makers.get(name)) is not None and node.operator in _LAYOUT and node.inputs:
        name = node.inputs[0]
    if node is None or node.operator != "Slice" or len(node.inputs) < 5:
        return False
    steps = graph.constants.get(node.inputs[4])
    return steps is not None and steps.values is not None and steps.values.tolist() == [-1]


def _view_shape(graph: OnnxGraph, dimension: int) -> str:
    """Name of the constant that parts features by views, used for nothing else."""
    names = [
        name
        for name, constant in graph.constants.items()
        if constant.values is not None and constant.values.tolist() == [-1, 2, dimension]
    ]
    users = [node.operator for node in graph.nodes for name in node.inputs if name in names]
    if len(names) != 1 or users != ["Reshape"]:
        raise ValueError(f"{len(users)} places where features are parted by views: expected one")
    return names[0]


def _copied(message: memoryview, changes: dict[int, _Change]) -> bytes:
    """A message whose fields of some numbers are changed."""
    parts = []
    for number, value in fields(message):
        if isinstance(value, int):
            parts.append(encoded_number(number, value))
        else:
            parts.append(encoded(number, changes[number](value) if number in changes else value))
    return b"".join(parts)


def _without_input(node: memoryview, name: str) -> bytes:
    kept = (pair for pair in fields(node) if not (pair[0] == _NODE_INPUT and _is(pair[1], name)))
    return b"".join(
        encoded_number(number, value) if isinstance(value, int) else encoded(number, value) for number, value in kept
    )


def _first_output(node: memoryview) -> str:
    names = (text(value) for number, value in fields(node) if number == 2 and isinstance(value, memoryview))
    return next(names, "")


def _is(value: int | memoryview, name: str) -> bool:
    return isinstance(value, memoryview) and len(value) <= 1 << 16 and text(value) == name
