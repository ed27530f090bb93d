"""A small re-ID network of another program: as an ONNX file, and as slow NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

HEIGHT_PX, WIDTH_PX = 24, 16
_CHANNELS, VALUES = 6, 12


@dataclass(frozen=True)
class ForeignFile:
    """How the file of the network is written.

    Attributes:
        layout: ``nchw`` or ``nhwc``.
        batch: the declared batch; None for any.
        unit: whether the network brings its output to unit length.
        opset: the operator set.
        depthwise: whether the middle convolution has one group per channel.
        flatten: how the map becomes a row: ``Flatten``, or ``Reshape`` to a fixed batch.
        half: whether weights and input are float16.
    """

    layout: str = "nchw"
    batch: int | None = None
    unit: bool = False
    opset: int = 13
    depthwise: bool = False
    flatten: str = "Flatten"
    half: bool = False

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The same values for every file."""
        generator = np.random.default_rng(3)
        group = 1 if self.depthwise else _CHANNELS
        shapes = {
            "stem": (_CHANNELS, 3, 3, 3),
            "stem_bias": (_CHANNELS,),
            "middle": (_CHANNELS, group, 3, 3),
            "gamma": (_CHANNELS,),
            "beta": (_CHANNELS,),
            "mean": (_CHANNELS,),
            "head": (VALUES, _CHANNELS),
            "head_bias": (VALUES,),
        }
        made = {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
        return made | {"var": generator.uniform(0.5, 2, _CHANNELS).astype(np.float32)}

    def write(self, path: Path, **changes: Any) -> Path:
        """Write the file. ``changes`` replace the lists ``nodes``, ``inputs`` or ``outputs`` of the graph."""
        onnx.save_model(self.model(**changes), str(path))
        return path

    def model(self, **changes: Any) -> Any:
        """The network as a protobuf message; see :meth:`write`."""
        kind, dtype = (TensorProto.FLOAT16, np.float16) if self.half else (TensorProto.FLOAT, np.float32)
        sides = (3, HEIGHT_PX, WIDTH_PX) if self.layout == "nchw" else (HEIGHT_PX, WIDTH_PX, 3)
        batch = self.batch or "N"
        parts = {
            "nodes": self._nodes(),
            "inputs": [helper.make_tensor_value_info("pixels", kind, [batch, *sides])],
            "outputs": [helper.make_tensor_value_info("features", kind, [batch, VALUES])],
        } | changes
        constants = [numpy_helper.from_array(values.astype(dtype), name) for name, values in self.weights().items()]
        if self.unit and self.opset >= 18:
            constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
        if self.flatten == "Reshape":
            constants.append(numpy_helper.from_array(np.array([self.batch, -1], np.int64), "row"))
        graph = helper.make_graph(parts["nodes"], "foreign", parts["inputs"], parts["outputs"], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=7)

    def _nodes(self) -> list[Any]:
        groups = _CHANNELS if self.depthwise else 1
        node = helper.make_node
        nodes = [node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2])] if self.layout == "nhwc" else []
        nodes += [
            node(
                "Conv", ["pixels" if self.layout == "nchw" else "planes", "stem", "stem_bias"], ["a"],
                kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            ),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "middle"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=groups),
            node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["d"], epsilon=1e-5),
            node("Add", ["b", "d"], ["e"]),
            node("Relu", ["e"], ["f"]),
            node("GlobalAveragePool", ["f"], ["g"]),
            node("Flatten", ["g"], ["h"]) if self.flatten == "Flatten" else node("Reshape", ["g", "row"], ["h"], "fix"),
            node("Gemm", ["h", "head", "head_bias"], ["i" if self.unit else "features"], transB=1),
        ]  # fmt: skip
        if self.unit:
            new = self.opset >= 18  # axes are an input there; PyTorch also writes this default
            nodes += [
                node("ReduceL2", ["i", "one"], ["j"], keepdims=1, noop_with_empty_axes=0)
                if new
                else node("ReduceL2", ["i"], ["j"], axes=[1], keepdims=1),
                node("Div", ["i", "j"], ["features"]),
            ]
        return nodes

    def forward(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The network in float64, convolutions as loops: (N, 3, height, width) to (N, VALUES)."""
        given = {name: values.astype(np.float64) for name, values in self.weights().items()}
        stem = np.maximum(convolved(planes, given["stem"], 2) + given["stem_bias"][:, None, None], 0)
        middle = given["middle"]
        if self.depthwise:
            full = np.zeros((_CHANNELS, _CHANNELS, 3, 3))
            full[np.arange(_CHANNELS), np.arange(_CHANNELS)] = middle[:, 0]
            middle = full
        scale = given["gamma"] / np.sqrt(given["var"] + 1e-5)
        normed = (convolved(stem, middle, 1) - given["mean"][:, None, None]) * scale[:, None, None]
        pooled = np.maximum(stem + normed + given["beta"][:, None, None], 0).mean((2, 3))
        features = pooled @ given["head"].T + given["head_bias"]
        return features / np.linalg.norm(features, axis=1, keepdims=True) if self.unit else features


def convolved(images: NDArray[np.float64], kernel: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """A 3 x 3 convolution with a border of zeros."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = images.shape[2] // stride, images.shape[3] // stride
    result = np.empty((len(images), len(kernel), rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = padded[:, :, row * stride : row * stride + 3, column * stride : column * stride + 3]
            result[:, :, row, column] = np.einsum("nchw,kchw->nk", window, kernel)
    return result
