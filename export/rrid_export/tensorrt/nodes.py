"""Names of an ONNX file's nodes: convolutions and matrix products, those in int8, and what follows the last of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rrid_edge.model.onnx_graph import GraphNode, read_graph
from rrid_edge.model.spec import OUTPUT_NAME

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply matrices. All others of this package's networks cost little beside them."""
_TAIL_ENDS: Final = PRODUCTS | {"Cast", "QuantizeLinear", "DequantizeLinear"}


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
    nodes = read_graph(path).nodes
    producers = {output: node for node in nodes for output in node.outputs}
    products = [node for node in nodes if node.operator in PRODUCTS]
    quantised = [node for node in products if _source(node, producers) == "DequantizeLinear"]
    return NodeNames(
        frozenset(node.name for node in products if node.name),
        frozenset(node.name for node in quantised if node.name),
        frozenset(_tail(products, producers)),
    )


def _source(node: GraphNode, producers: Mapping[str, GraphNode]) -> str:
    """Operator that computes the node's first input; empty if none does."""
    found = producers.get(node.inputs[0]) if node.inputs else None
    return found.operator if found else ""


def _tail(products: Collection[GraphNode], producers: Mapping[str, GraphNode]) -> set[str]:
    """Names of the nodes from the output back to the last products, casts or dequantisations."""
    before = _ancestors([name for node in products for name in node.inputs], producers, frozenset())
    after = _ancestors([OUTPUT_NAME], producers, _TAIL_ENDS)
    return {node.name for node in after.values() if node.name and node.outputs[0] not in before}


def _ancestors(
    tensors: Collection[str], producers: Mapping[str, GraphNode], ends: Collection[str]
) -> dict[str, GraphNode]:
    """First output -> node, for the nodes that compute these tensors, back to nodes of the operators ``ends``."""
    found: dict[str, GraphNode] = {}
    pending = list(tensors)
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.operator in ends or node.outputs[0] in found:
            continue
        found[node.outputs[0]] = node
        pending += node.inputs
    return found
