"""A small convolutional network in mixed precision that keeps the model contract, and its NumPy float32 twin.

The twin needs no PyTorch, so the tests on a GPU run on machines that have only TensorRT, such as a Jetson.

Weights are scaled so that activations stay near 1. The error of fp16 is then its rounding error, not one of bad
conditioning. Input scaling and the norm are float32. With ``precision="fp16"``, all layers between are float16.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rrid_edge.engines.fake import fake_spec
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.model.weights import contract_file

CHANNELS = (3, 32, 64, 64, 64)


def half_spec(precision: str = "fp16") -> ModelSpec:
    return fake_spec("half", height_px=192, width_px=64, block_width=16).with_precision(precision)


def _weights(spec: ModelSpec) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    weights = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS)):
        shape = (outputs, inputs, 3, 3)
        weights[f"conv{index}"] = generator.standard_normal(shape) * np.sqrt(2 / (9 * inputs))
    inputs = 6 * CHANNELS[-1]  # six stripes of the 12 x 4 map
    weights["head"] = generator.standard_normal((inputs, spec.dimension)) / np.sqrt(inputs)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def save_half_model(path: Path, precision: str = "fp16") -> Path:
    """Write the ONNX file in ``fp16`` (mixed precision) or ``fp32``."""
    spec = half_spec(precision)
    kind, dtype = (TensorProto.FLOAT16, np.float16) if precision == "fp16" else (TensorProto.FLOAT, np.float32)
    constants = {name: value.astype(dtype) for name, value in _weights(spec).items()}
    constants |= {"scale": np.float32(1 / 64), "middle": np.float32(127.5), "flat": np.array([0, -1], np.int64)}
    constants["small"] = np.float32(1e-6)
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["channels", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["x0"], to=kind),
    ]
    last = len(CHANNELS) - 1
    geometry = {"pads": [1, 1, 1, 1], "strides": [2, 2], "kernel_shape": [3, 3]}
    for index in range(last):
        nodes.append(helper.make_node("Conv", [f"x{index}", f"conv{index}"], [f"c{index}"], **geometry))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]))
    nodes += [
        helper.make_node("MaxPool", [f"x{last}"], ["pooled"], kernel_shape=[2, 4], strides=[2, 4]),
        helper.make_node("Reshape", ["pooled", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "head"], ["features"]),
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceL2", ["wide"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "small"], ["length"]),
        helper.make_node("Div", ["wide", "length"], [OUTPUT_NAME]),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", spec.height_px, spec.width_px, 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", spec.dimension])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contract_file(model.SerializeToString(), spec))
    return path


def half_reference(images: np.ndarray) -> np.ndarray:
    """Run the network in NumPy, all in float32."""
    weights = _weights(half_spec())
    x = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 64
    for index in range(len(CHANNELS) - 1):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
        x = np.maximum(np.einsum("ncrsij,ocij->nors", windows, weights[f"conv{index}"], optimize=True), 0)
    count, channels, rows, columns = x.shape
    pooled = x.reshape(count, channels, rows // 2, 2, columns // 4, 4).max((3, 5))
    features = pooled.reshape(count, -1) @ weights["head"]
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def smooth_images(count: int, seed: int = 0) -> np.ndarray:
    """Return different images of large uniform patches. Noise alone would give almost equal descriptors."""
    generator = np.random.default_rng(seed)
    spec = half_spec()
    patches = generator.integers(0, 256, (count, spec.height_px // 16, spec.width_px // 16, 3), dtype=np.uint8)
    return patches.repeat(16, axis=1).repeat(16, axis=2)
