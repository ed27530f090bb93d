"""What an ONNX file says about its nodes: convolutions and matrix products, those in int8, and what follows the last.

It is read from the protobuf wire format, because the device has no package ``onnx``.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rrid_edge.model.onnx_header import no_onnx
from rrid_edge.model.protobuf import fields, text
from rrid_edge.model.spec import OUTPUT_NAME

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply matrices. All others of this package's networks cost little beside them."""
_TAIL_ENDS: Final = PRODUCTS | {"Cast", "QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Node:
    """A node of an ONNX graph."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class NodeNames:
    """Names of an ONNX file's nodes, by what a proof of precision expects of them.

    Attributes:
        products: convolutions and matrix products.
        quantised: those of them whose input comes from a DequantizeLinear: they compute in int8.
        tail: nodes between the last products (or the last cast) and the output; the L2 norm is among them.
    """

    products: frozenset[str]
    quantised: frozenset[str]
    tail: frozenset[str]

    @property
    def quantised_share(self) -> float:
        """Share of the products that the file quantises, 0 to 1."""
        return len(self.quantised) / len(self.products) if self.products else 0.0


def read_node_names(path: Path) -> NodeNames:
    """Read the names of an ONNX file's nodes.

    Raises:
        ModelFileError: the file is not ONNX, or damaged.
    """
    try:
        nodes = read_nodes(path)
    except ValueError as error:
        raise no_onnx(path, error) from error
    return names_of(nodes)


def names_of(nodes: Collection[Node]) -> NodeNames:
    """The names of a graph's nodes, by what a proof of precision expects of them."""
    producers = {output: node for node in nodes for output in node.outputs}
    products = [node for node in nodes if node.operator in PRODUCTS]
    quantised = [node for node in products if _source(node, producers) == "DequantizeLinear"]
    return NodeNames(
        frozenset(node.name for node in products if node.name),
        frozenset(node.name for node in quantised if node.name),
        frozenset(_tail(products, producers)),
    )


def read_nodes(path: Path) -> tuple[Node, ...]:
    """Read the nodes of an ONNX file's main graph, in the order of the file.

    Raises:
        ValueError: the file is damaged.
    """
    with path.open("rb") as stream:
        # Not closed here: an error's traceback holds views of the map. The last view unmaps the file.
        view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    graphs = [value for field, value in fields(view) if field == 7 and isinstance(value, memoryview)]
    return tuple(
        _node(value)
        for graph in graphs
        for field, value in fields(graph)
        if field == 1 and isinstance(value, memoryview)
    )


def _node(view: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    for field, value in fields(view):
        if field in texts and isinstance(value, memoryview):
            texts[field].append(text(value))
    inputs, outputs, name, operator = texts.values()
    return Node("".join(name[-1:]), "".join(operator[-1:]), tuple(inputs), tuple(outputs))


def _source(node: Node, producers: Mapping[str, Node]) -> str:
    """Operator that computes the node's first input; empty if none does."""
    found = producers.get(node.inputs[0]) if node.inputs else None
    return found.operator if found else ""


def _tail(products: Collection[Node], producers: Mapping[str, Node]) -> set[str]:
    """Names of the nodes from the output back to the last products, casts or dequantisations."""
    before = _ancestors([name for node in products for name in node.inputs], producers, frozenset())
    after = _ancestors([OUTPUT_NAME], producers, _TAIL_ENDS)
    return {node.name for node in after.values() if node.name and node.outputs[0] not in before}


def _ancestors(tensors: Collection[str], producers: Mapping[str, Node], ends: Collection[str]) -> dict[str, Node]:
    """First output -> node, for the nodes that compute these tensors, back to nodes of the operators ``ends``."""
    found: dict[str, Node] = {}
    pending = list(tensors)
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.operator in ends or node.outputs[0] in found:
            continue
        found[node.outputs[0]] = node
        pending += node.inputs
    return found
