"""The layers of a float32 graph that int8 can store: convolutions, and the head's batched matrix products."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_header import read_model_header
from rrid_edge.model.spec import HOW_MADE


@dataclass(frozen=True)
class Layer:
    """A layer that can be quantised.

    Attributes:
        name: name of the node.
        source: name of its input tensor.
        weight: name of its weights.
        residual: name of the tensor in the residual add after this layer, or None if none follows.
        head: whether it is one of the head's batched products, (G, N, C) x constant (G, C, O). They are a small part
            of all multiplications.
    """

    name: str
    source: str
    weight: str
    residual: str | None
    head: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the activations that are quantised for this layer."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


def read_graph(path: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """Read a float32 model.

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
    return model


def int8_layers(model: Any) -> list[Layer]:  # noqa: ANN401
    """All convolutions and batched products with constant weights, in graph order."""
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    residuals: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add" and not shapes.keys() & set(node.input):
            convolved = [name for name in node.input if name in producers and producers[name].op_type == "Conv"]
            if convolved and len(set(node.input)) == 2:
                # Behind a linear bottleneck, a convolution makes the residual too, but others read that as well.
                main = min(convolved, key=lambda name: readers[name] > 1)
                residuals[main] = next(name for name in node.input if name != main)
    return [
        Layer(node.name, node.input[0], node.input[1], residuals.get(node.output[0]), head=node.op_type == "MatMul")
        for node in graph.node
        if (node.op_type == "Conv" and node.input[1] in shapes)
        or (node.op_type == "MatMul" and len(shapes.get(node.input[1], ())) == 3)
    ]


def weight_sizes(model: Any) -> dict[str, int]:  # noqa: ANN401
    """Layer name -> number of weights."""
    counts = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    return {layer.name: counts[layer.weight] for layer in int8_layers(model)}
