"""Names of an ONNX file's nodes: convolutions and matrix products, those in int8, and what follows the last of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.names import portable_onnx_path
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
        quantised: those of them whose input comes from a DequantizeLinear, with or without a MaxPool after it: they
            compute in int8.
        singles: those of them whose weights are stored in float32. In a float16 file, they are islands.
        tail: nodes between the last products (or the last cast) and the output; the L2 norm is among them.
    """

    products: frozenset[str]
    quantised: frozenset[str]
    tail: frozenset[str]
    singles: frozenset[str] = frozenset()

    @property
    def quantised_share(self) -> float:
        """Share of the products that the file quantises, 0 to 1."""
        return len(self.quantised) / len(self.products) if self.products else 0.0

    @property
    def half_share(self) -> float:
        """Share of the products that a float16 file stores in float16, 0 to 1."""
        return 1 - len(self.singles) / len(self.products) if self.products else 1.0


def read_node_names(path: Path) -> NodeNames:
    """Read the names of an ONNX file's nodes.

    Raises:
        ModelFileError: the file is not ONNX, or damaged.
    """
    graph = read_graph(path)
    nodes, constants = graph.nodes, graph.constants
    producers = {output: node for node in nodes for output in node.outputs}
    products = [node for node in nodes if node.operator in PRODUCTS]
    quantised = [node for node in products if _source(node, producers) == "DequantizeLinear"]
    return NodeNames(
        frozenset(node.name for node in products if node.name),
        frozenset(node.name for node in quantised if node.name),
        frozenset(_tail(products, producers)),
        frozenset(
            node.name
            for node in products
            if node.name and any(name in constants and constants[name].dtype == "float32" for name in node.inputs[1:2])
        ),
    )


def refuse_file_for_cpus(path: Path) -> None:
    """Refuse an int8 file whose activations are uint8.

    Raises:
        UsageError: the file is for CPUs. Some parsers of TensorRT read it, and would clip activations at half their
            range.
        ModelFileError: the file is not ONNX, or damaged.
    """
    graph = read_graph(path)
    for node in graph.nodes:
        zero = graph.constants.get(node.inputs[2]) if node.operator == "QuantizeLinear" and node.inputs[2:] else None
        if zero is not None and zero.dtype == "uint8":
            raise UsageError(
                f"{printable(path)}: this int8 file is for CPUs (its activations are uint8), expected int8, which "
                f"TensorRT reads; give {printable(portable_onnx_path(path).name)}, which calibration wrote beside it",
                parameter="model",
            )


def _source(node: GraphNode, producers: Mapping[str, GraphNode]) -> str:
    """Operator that computes the node's first input, before any MaxPool, which passes int8 on; empty if none does."""
    found = producers.get(node.inputs[0]) if node.inputs else None
    while found is not None and found.operator == "MaxPool":
        found = producers.get(found.inputs[0])
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
