"""What the ONNX parsers of all supported TensorRT versions (8.6, 10.0 to 10.16, 11) need of a file.

A file is checked when it is written, on a machine without TensorRT. The oldest parser sets most rules: newer ones
accept more. Sources: the published table of operators and types (onnx-tensorrt, ``docs/operators.md`` of 8.5; 8.6 only
added operators), its change log, and what real parsers refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.model.onnx_graph import TYPES, Constant, GraphNode, OnnxGraph, read_graph

NEWEST_OPSET: Final = 17
_OLDEST_OPSET: Final = 13
_ALL: Final = "TensorRT 8.6 to 11 refuse it"
_EIGHT: Final = "TensorRT 8.6 refuses it"
_KERNELS: Final = "TensorRT 8.6 and 10.0 to 10.3 refuse it"
_UNPROMISED: Final = "TensorRT 8.6 does not promise to read it"
"""Newer versions may read it. A file of this package must not need that."""

_FLOATS: Final = frozenset({"float32", "float16"})
_NUMBERS: Final = _FLOATS | {"int32", "int64"}  # 8.6 casts int64 to int32
_MOVED: Final = _NUMBERS | {"bool"}
_TYPES: Final = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Neg", "Abs"), _NUMBERS),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _NUMBERS),
    **dict.fromkeys(("And", "Or", "Not", "Xor"), frozenset({"bool"})),
    **dict.fromkeys(("Conv", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization"), _FLOATS),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Softmax", "LogSoftmax"), _FLOATS),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1"), _FLOATS),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"), _FLOATS),
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish"), _FLOATS),
    **dict.fromkeys(("Tanh", "Softplus", "Softsign", "Clip", "Sqrt", "Pow", "Exp", "Log", "Erf"), _FLOATS),
    **dict.fromkeys(("Ceil", "Floor", "Round", "Reciprocal", "Sin", "Cos", "Tan", "Celu"), _FLOATS),
    **dict.fromkeys(("Concat", "Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Identity"), _MOVED),
    **dict.fromkeys(("Gather", "Shape", "Flatten", "Expand", "Split", "Tile", "Where", "Constant"), _MOVED),
    "Cast": _MOVED | {"uint8", "int8"},
    "QuantizeLinear": _FLOATS,
    "DequantizeLinear": frozenset({"int8"}),
}
"""Operators and the types of the tensors that they compute with, which all versions share. int8 is left to Cast and to
the two operators of quantisation, uint8 to Cast: older parsers take it at the border of the network only."""
_ONE_TENSOR: Final = (
    "Reshape", "Slice", "Squeeze", "Unsqueeze", "Gather", "Expand", "Split", "Tile", "Cast", "Shape",
    "QuantizeLinear", "DequantizeLinear", "ReduceSum",
)  # fmt: skip
"""Operators whose first input alone holds data; the others are sizes, positions or scales."""
_LISTED_AXES: Final = {"Slice": 3, "Squeeze": 1, "Unsqueeze": 1}
"""Position of the input with axes that has to be a constant."""


@dataclass(frozen=True)
class Breach:
    """A rule that a file breaks.

    Attributes:
        node: name of the node; empty for the whole file.
        rule: what is wrong and what was expected.
        versions: which TensorRT versions refuse it.
    """

    node: str
    rule: str
    versions: str

    def __str__(self) -> str:
        where = f"node {self.node!r} " if self.node else ""
        return f"{where}{self.rule} ({self.versions})"


def check_operators(path: Path) -> None:
    """Refuse an ONNX file that the parser of a supported TensorRT version cannot read.

    Raises:
        CheckFailedError: names the first rule that is broken, its node and the versions.
        ModelFileError: the file is not ONNX, or damaged.
    """
    if found := _first_breach(path):
        raise CheckFailedError(
            f"{printable(path)}: TensorRT cannot read this file: {found}; nothing was written; try other versions of "
            "torch and onnx"
        )


def operator_remark(path: Path) -> str:
    """The first rule that an ONNX file breaks, as one line for people; empty if it breaks none.

    Raises:
        ModelFileError: the file is not ONNX, or damaged.
    """
    found = _first_breach(path)
    return f"not every version of TensorRT reads this file: {found}" if found else ""


def _first_breach(path: Path) -> str:
    found = breaches(read_graph(path))
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{printable(str(found[0]))}{more}" if found else ""


def breaches(graph: OnnxGraph) -> list[Breach]:
    """All rules that a graph breaks, in the order of its nodes."""
    return [*_of_the_file(graph), *_Nodes(graph).breaches()]


def _of_the_file(graph: OnnxGraph) -> Iterator[Breach]:
    opset = graph.opsets.get("", graph.opsets.get("ai.onnx", 0))
    if not _OLDEST_OPSET <= opset <= NEWEST_OPSET:
        yield Breach("", f"operator set {opset}, expected {_OLDEST_OPSET} to {NEWEST_OPSET}", _UNPROMISED)
    if graph.functions:
        yield Breach("", f"{graph.functions} local functions, expected none", _EIGHT)
    if graph.sparse:
        yield Breach("", f"{graph.sparse} sparse initialisers, expected none", _UNPROMISED)


class _Nodes:
    """Checks the nodes of a graph, in order, and follows the types of its tensors."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._constants = dict(graph.constants)
        self._types = {name: item.dtype for name, item in graph.constants.items()} | graph.types
        self._makers: dict[str, GraphNode] = {}
        self._checks: dict[str, Callable[[GraphNode], Iterator[tuple[str, str]]]] = {
            "Conv": self._convolution,
            "MaxPool": self._pooling,
            "AveragePool": self._pooling,
            "QuantizeLinear": self._quantisation,
            "DequantizeLinear": self._quantisation,
        }

    def breaches(self) -> Iterator[Breach]:
        """The rules that nodes break."""
        for node in self._graph.nodes:
            name = node.name or f"{node.operator} that makes {', '.join(node.outputs[:1])}"
            for rule, versions in self._rules_of(node):
                yield Breach(name, rule, versions)
            for output in node.outputs:
                self._makers[output] = node
                self._types.setdefault(output, self._type_made(node))
            if node.operator == "Constant" and node.constant is not None:
                self._constants[node.outputs[0]] = node.constant
                self._types[node.outputs[0]] = node.constant.dtype

    def _rules_of(self, node: GraphNode) -> Iterator[tuple[str, str]]:
        if node.domain not in ("", "ai.onnx") or node.operator not in _TYPES:
            domain = f"{node.domain}." if node.domain else ""
            yield f"is a {domain}{node.operator}, expected an operator that all parsers share", _UNPROMISED
            return
        yield from self._types_of(node)
        place = _LISTED_AXES.get(node.operator)
        if place is not None and len(node.inputs) > place and self._constant(node, place) is None:
            yield f"({node.operator}) computes its axes, expected a constant", _UNPROMISED
        if node.operator in self._checks:
            yield from self._checks[node.operator](node)

    def _types_of(self, node: GraphNode) -> Iterator[tuple[str, str]]:
        data = [name for name in (node.inputs[:1] if node.operator in _ONE_TENSOR else node.inputs) if name]
        if node.operator == "Where":
            data = data[1:]
        found = [self._types.get(name, "") for name in data]
        allowed = _TYPES[node.operator]
        for name, dtype in zip(data, found, strict=True):
            if dtype not in allowed:
                told = f"takes {dtype}" if dtype else "takes a tensor of unknown type"
                yield f"({node.operator}) {told} ({name}), expected {', '.join(sorted(allowed))}", _refusing(dtype)
        floats = sorted(_FLOATS.intersection(found))
        if len(floats) > 1:
            yield f"({node.operator}) mixes {' and '.join(floats)}, expected one type", _ALL
        if node.operator == "Cast" and (made := _cast_to(node)) not in allowed:
            yield f"(Cast) makes {made}, expected {', '.join(sorted(allowed))}", _refusing(made)

    def _convolution(self, node: GraphNode) -> Iterator[tuple[str, str]]:
        if self._constant(node, 1) is None and not node.attributes.get("kernel_shape"):
            yield "(Conv) names no kernel_shape, and its weights are computed", _KERNELS
        if len(node.inputs) > 2 and node.inputs[2] and self._constant(node, 2) is None:
            yield "(Conv) computes its bias, expected a constant", _UNPROMISED

    def _pooling(self, node: GraphNode) -> Iterator[tuple[str, str]]:
        kernel = node.attributes.get("kernel_shape")
        if not isinstance(kernel, tuple) or len(kernel) not in (2, 3):
            yield f"({node.operator}) pools over other than 2 or 3 axes", _UNPROMISED
        if len(node.outputs) > 1:
            yield f"({node.operator}) also gives indices, expected the values alone", _ALL

    def _quantisation(self, node: GraphNode) -> Iterator[tuple[str, str]]:
        """Symmetric int8 in pairs, with scales and zero points that are constants."""
        kind, source = node.operator, "".join(node.inputs[:1])
        scale, zero = self._constant(node, 1), self._constant(node, 2)
        if scale is None or scale.values is None:
            yield f"({kind}) computes its scale, expected a constant", _UNPROMISED
        elif not (np.isfinite(scale.values) & (scale.values > 0)).all():
            yield f"({kind}) has a scale that is not positive", _ALL
        elif kind == "QuantizeLinear" and scale.dtype != self._types.get(source, scale.dtype):
            yield f"({kind}) has a {scale.dtype} scale for {self._types[source]}, expected one type", _UNPROMISED
        if zero is None or zero.dtype != "int8" or zero.values is None:
            yield f"({kind}) has no constant zero point of int8", _UNPROMISED
        elif zero.values.any():
            yield f"({kind}) has a zero point that is not 0", _ALL
        weights = self._constants.get(source)
        if scale is not None and scale.shape not in ((), (1,)):
            yield from _per_channel(node, weights, scale)
        maker = self._makers.get(source)
        if kind == "DequantizeLinear" and weights is None and (maker is None or maker.operator != "QuantizeLinear"):
            yield f"({kind}) takes int8 that no QuantizeLinear made", _UNPROMISED

    def _constant(self, node: GraphNode, place: int) -> Constant | None:
        return self._constants.get(node.inputs[place]) if len(node.inputs) > place else None

    def _type_made(self, node: GraphNode) -> str:
        """Type of a node's outputs; empty if it cannot be told."""
        if node.operator in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
            return "bool"
        if node.operator == "QuantizeLinear":
            zero = self._constant(node, 2)
            return zero.dtype if zero else "uint8"  # ONNX's default
        place = {"DequantizeLinear": 1, "Where": 1}.get(node.operator, 0)
        if node.operator in ("Shape", "Cast") or len(node.inputs) <= place:
            return {"Shape": "int64", "Cast": _cast_to(node)}.get(node.operator, "")
        return self._types.get(node.inputs[place], "")


def _per_channel(node: GraphNode, weights: Constant | None, scale: Constant) -> Iterator[tuple[str, str]]:
    """Scales of several channels are for weights, one per output channel."""
    axis = node.attributes.get("axis", 1)
    if weights is None:
        yield f"({node.operator}) has a scale per channel of an activation, expected one for the tensor", _ALL
    elif axis != 0 or scale.shape != weights.shape[:1]:
        yield (
            f"({node.operator}) has {scale.shape} scales on axis {axis}, expected one per output channel on axis 0",
            _ALL,
        )


def _cast_to(node: GraphNode) -> str:
    number = node.attributes.get("to")
    return TYPES.get(number, "") if isinstance(number, int) else ""


def _refusing(dtype: str) -> str:
    """Which versions refuse a type."""
    if dtype == "bfloat16" or dtype.startswith(("float8", "int4")):
        return _EIGHT
    return _ALL if dtype == "uint8" else _UNPROMISED
