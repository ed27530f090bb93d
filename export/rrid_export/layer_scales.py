"""The direction in which the scale of each layer moves the descriptors, by finite differences on an ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.helper import make_tensor_value_info

from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_export.mistakes import read_network

STEP = 0.02
"""Relative change of a layer's weights: small enough to be linear, 1e4 times the rounding of float32."""


def layer_directions(
    path: Path, images: NDArray[np.uint8], only: Collection[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Change of the descriptors per unit of each layer's scale.

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
    layers = _layer_weights(model)
    for weights in layers:  # constants that are inputs too can be fed: one session serves all layers
        model.graph.input.append(make_tensor_value_info(weights.name, weights.data_type, list(weights.dims)))
    session = MemorySession(model.SerializeToString())
    exact = session.run(images)
    names, directions = [], []
    for weights in layers:
        for name, values in _scaled(weights):
            if only is None or name in only:
                names.append(name)
                directions.append((session.run(images, constants={weights.name: values}) - exact) / STEP)
    return tuple(names), np.stack(directions) if directions else np.empty((0, *exact.shape), np.float32)


def _scaled(weights: Any) -> Iterator[tuple[str, NDArray[Any]]]:  # noqa: ANN401 - a protobuf message
    """Name and scaled weights of each layer in a tensor: stacked matrices (layers, in, out) are a layer each."""
    values = numpy_helper.to_array(weights)
    if values.ndim != 3:
        yield weights.name, (values * (1 + STEP)).astype(values.dtype)
        return
    for index in range(len(values)):
        changed = values.copy()
        changed[index] = (values[index] * (1 + STEP)).astype(values.dtype)
        yield f"{weights.name}[{index}]", changed


def _layer_weights(model: Any) -> list[Any]:  # noqa: ANN401 - protobuf messages
    """Constant weights of all convolutions and matrix products, in the order of the graph."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type in floats}
    names = dict.fromkeys(
        name for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm") for name in node.input[:2]
    )
    return [constants[name] for name in names if name in constants]
