"""The tail of an exported network: the layers after its last convolution or cast, which contain the L2 norm.

Names are read from the ONNX file with the protobuf reader of this package, so ``onnx`` is not needed.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.onnx_header import no_onnx
from rrid_edge.model.protobuf import fields, text

_ENDS = ("Cast", "Constant", "Shape", "Conv", "QuantizeLinear", "DequantizeLinear")
# Field numbers of onnx.proto.
_GRAPH_OF_MODEL = 7
_NODE, _OUTPUT_OF_GRAPH = 1, 12
_INPUT, _OUTPUT, _NAME, _OPERATOR = 1, 2, 3, 4
_NAME_OF_VALUE = 1


@dataclass(frozen=True)
class _Node:
    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def tail_nodes(path: Path) -> tuple[str, ...]:
    """Names of the nodes of the tail, from the output back; empty names where a node has none.

    In an fp16 file the tail ends at the cast back to float32; in an int8 file at the last convolutions and
    dequantisations.

    Args:
        path: an ONNX file of this package.

    Raises:
        UsageError: the file cannot be read.
        ModelFileError: the file is damaged.
    """
    try:
        with path.open("rb") as stream:
            nodes, pending = _graph(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except OSError as error:
        raise UsageError(
            f"{printable(path)}: cannot be read ({error.strerror or error}); give another model file", parameter="model"
        ) from error
    except ValueError as error:
        raise no_onnx(path, error) from error
    producers = {output: node for node in nodes for output in node.outputs}
    found: list[str] = []
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.operator in _ENDS:
            continue
        for output in node.outputs:
            del producers[output]
        found.append(node.name)
        pending += node.inputs
    return tuple(found)


def _graph(model: memoryview) -> tuple[list[_Node], list[str]]:
    """The nodes of a model's graph, and the names of its outputs."""
    nodes: list[_Node] = []
    outputs: list[str] = []
    for graph in _messages(model, _GRAPH_OF_MODEL):
        for number, value in fields(graph):
            if number == _NODE and isinstance(value, memoryview):
                nodes.append(_node(value))
            elif number == _OUTPUT_OF_GRAPH and isinstance(value, memoryview):
                outputs += (text(name) for name in _messages(value, _NAME_OF_VALUE))
    return nodes, outputs


def _node(view: memoryview) -> _Node:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _OPERATOR: []}
    for number, value in fields(view):
        if number in texts and isinstance(value, memoryview):
            texts[number].append(text(value))
    return _Node("".join(texts[_NAME]), "".join(texts[_OPERATOR]), tuple(texts[_INPUT]), tuple(texts[_OUTPUT]))


def _messages(view: memoryview, wanted: int) -> list[memoryview]:
    return [value for number, value in fields(view) if number == wanted and isinstance(value, memoryview)]
