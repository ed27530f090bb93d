"""The layers of a float32 graph that int8 can store: convolutions, and matrix products with constant weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_header import read_model_header
from rrid_edge.model.spec import HOW_MADE

_STORED: Final = frozenset({"Conv", "Gemm", "MatMul"})
_OTHERS: Final = frozenset({"ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"})
"""Layers with weights that have no int8 form here."""
_PLAIN_GEMM: Final = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def in_words(count: int) -> str:
    """A number of layers in words: ``1 layer``, ``2 layers``."""
    return f"{count} layer{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Layer:
    """A layer that can be quantised.

    Attributes:
        name: name of the node.
        source: name of its input tensor.
        weight: name of its weights.
        residual: name of the tensor in the residual add after this layer, or None if none follows.
        head: whether it is a matrix product: batched, (G, N, C) x constant (G, C, O), or plain, (..., C) x constant
            (C, O). They are a small part of all multiplications, mostly in the head.
        gemm: whether the product is a Gemm, with one row of weights (O, C) per output. The weights of the other
            products have one column per output.
    """

    name: str
    source: str
    weight: str
    residual: str | None
    head: bool = False
    gemm: bool = False

    @property
    def by_column(self) -> bool:
        """Whether the weights have one column per output."""
        return self.head and not self.gemm

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the activations that are quantised for this layer."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


@dataclass(frozen=True)
class FloatNode:
    """A layer that int8 cannot store.

    Attributes:
        name: name of the node.
        operator: its operator.
        reason: why it stays in float32.
    """

    name: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name!r} ({self.operator}: {self.reason})"


def read_graph(path: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """Read a float32 model. Constant weights of each Gemm get one row per output.

    Raises:
        ModelFileError: the file is not ONNX or is damaged.
    """
    read_model_header(path)  # refuses weights outside the folder, which onnx would open
    try:
        model = onnx.load_model(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, the checker's and the system's own classes
        raise ModelFileError(
            f"{printable(path)}: not an ONNX file, or damaged ({str(error).splitlines()[0]}); export it again with: "
            f"{HOW_MADE}"
        ) from error
    turn_gemms(model.graph)
    return model


def int8_layers(model: Any) -> list[Layer]:  # noqa: ANN401
    """All convolutions and matrix products that int8 can store, in graph order."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    residuals = _residuals(graph, weights)
    return [
        Layer(
            node.name,
            node.input[0],
            node.input[1],
            residuals.get(node.output[0]),
            head=node.op_type != "Conv",
            gemm=node.op_type == "Gemm",
        )
        for node in graph.node
        if node.op_type in _STORED and not _obstacle(node, weights)
    ]


def float_nodes(model: Any) -> tuple[FloatNode, ...]:  # noqa: ANN401
    """The layers that multiply matrices and that int8 cannot store, in graph order."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return tuple(
        FloatNode(node.name, node.op_type, reason)
        for node in model.graph.node
        if node.op_type in _STORED | _OTHERS and (reason := _obstacle(node, weights))
    )


def _obstacle(node: Any, weights: Mapping[str, Any]) -> str:  # noqa: ANN401
    """Why int8 cannot store a layer; empty if it can."""
    if node.op_type not in _STORED:
        return "no int8 form of this operator"
    found = weights.get(node.input[1])
    if found is None:
        return "its weights are computed"
    if node.input[0] in weights:
        return "its first input is constant"
    if found.data_type != onnx.TensorProto.FLOAT:
        return "its weights are not float32"
    if node.op_type == "Gemm" and _gemm_options(node) != _PLAIN_GEMM:
        return "it scales its product or turns its input"
    if node.op_type == "MatMul" and len(found.dims) not in (2, 3):
        return f"weights of {len(found.dims)} axes"
    return ""


def _residuals(graph: Any, weights: Collection[str]) -> dict[str, str]:  # noqa: ANN401
    """Output of a convolution -> the other input of the residual add after it."""
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    residuals: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add" and not set(weights) & set(node.input):
            convolved = [name for name in node.input if name in producers and producers[name].op_type == "Conv"]
            if convolved and len(set(node.input)) == 2:
                # Behind a linear bottleneck, a convolution makes the residual too, but others read that as well.
                main = min(convolved, key=lambda name: readers[name] > 1)
                residuals[main] = next(name for name in node.input if name != main)
    return residuals


def weight_sizes(model: Any) -> dict[str, int]:  # noqa: ANN401
    """Layer name -> number of weights."""
    counts = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    return {layer.name: counts[layer.weight] for layer in int8_layers(model)}


def turn_gemms(graph: Any) -> None:  # noqa: ANN401
    """Store constant weights of each plain Gemm with one row per output, which has a scale in every runtime."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        options = _gemm_options(node) if node.op_type == "Gemm" else _PLAIN_GEMM
        found = weights.get(node.input[1]) if options == {**_PLAIN_GEMM, "transB": 0} else None
        if found is None:
            continue
        name = f"{node.input[1]}_by_output"
        if name not in weights:
            turned = np.ascontiguousarray(numpy_helper.to_array(found).T)
            weights[name] = numpy_helper.from_array(turned, name)
            graph.initializer.append(weights[name])
        kept = [item for item in node.attribute if item.name != "transB"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("transB", 1)])
        node.input[1] = name
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def _gemm_options(node: Any) -> dict[str, float]:  # noqa: ANN401
    found = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | found
