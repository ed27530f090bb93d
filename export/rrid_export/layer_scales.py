"""The direction in which the scale of each layer moves the descriptors, by finite differences on an ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.helper import make_node, make_tensor_value_info, tensor_dtype_to_np_dtype

from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_export.mistakes import read_network

STEP = 0.02
"""Relative change of a layer's weights: small enough to be linear, 1e4 times the rounding of float32."""
_PREFIX = "scale of "


def layer_directions(
    path: Path, images: NDArray[np.uint8], only: Collection[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Change of the descriptors per unit of each layer's scale.

    A layer is linear in its input, so a factor before the layer has the effect of scaled weights. One session with
    these factors as inputs serves all layers, and its weights stay prepared for the kernels.

    Args:
        path: float32 or float16 ONNX file of this package.
        images: uint8 (N, height, width, 3).
        only: names of layers; None means all.

    Returns:
        Names of the weights of L layers, and float32 (L, N, D). Of stacked matrix products each is a layer. The network
        runs L + 1 times on ONNX Runtime's CPU provider.

    Raises:
        ModelFileError: the file cannot be read.
    """
    model = read_network(path)
    factors = _add_factors(model)
    session = MemorySession(model.SerializeToString())
    exact = session.run(images)
    names, directions = [], []
    for weights, neutral in factors.items():
        for name, factor in _scaled(weights, neutral):
            if only is None or name in only:
                names.append(name)
                directions.append((session.run(images, constants={_PREFIX + weights: factor}) - exact) / STEP)
    return tuple(names), np.stack(directions) if directions else np.empty((0, *exact.shape), np.float32)


def _scaled(weights: str, neutral: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and factors of each layer of a tensor: stacked matrices are a layer each."""
    for index in range(len(neutral)):
        factor = neutral.copy()
        factor[index] *= 1 + STEP
        yield (f"{weights}[{index}]" if len(neutral) > 1 else weights), factor


def _add_factors(model: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - a protobuf message
    """Multiply the input of every layer by a constant 1 that can be fed; return these constants by weights.

    Layers are convolutions and matrix products with constant float weights, in the order of the graph. The constant has
    one value, or one per matrix, as (matrices, 1, 1).
    """
    graph = model.graph
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type in floats}
    factors: dict[str, NDArray[Any]] = {}
    nodes = []
    for node in graph.node:
        weights = next((name for name in node.input[:2] if name in constants), None)
        if node.op_type in ("Conv", "MatMul", "Gemm") and weights is not None:
            if weights not in factors:
                tensor = constants[weights]
                stacked = node.op_type == "MatMul" and len(tensor.dims) == 3
                shape = (tensor.dims[0], 1, 1) if stacked else (1,)
                neutral = np.ones(shape, tensor_dtype_to_np_dtype(tensor.data_type))
                graph.initializer.append(numpy_helper.from_array(neutral, _PREFIX + weights))
                graph.input.append(make_tensor_value_info(_PREFIX + weights, tensor.data_type, neutral.shape))
                factors[weights] = neutral
            place = 1 - list(node.input[:2]).index(weights)
            scaled = f"{node.input[place]} for {node.output[0]}"  # layers may share weights
            nodes.append(make_node("Mul", [node.input[place], _PREFIX + weights], [scaled]))
            node.input[place] = scaled
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return factors
