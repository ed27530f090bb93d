"""Tiny ONNX models that keep the model contract, for tests that need a file but no trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rrid_edge.engines.fake import fake_spec
from rrid_edge.model.spec import FLOAT32_NCHW, INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.model.weights import WEIGHTS_KEY, contract_file


def tiny_model(spec: ModelSpec | None = None, *, seed: int = 0) -> onnx.ModelProto:
    """Images -> mean colours of 6 x 2 cells -> random projection -> unit descriptors.

    The graph takes the form of input that ``spec`` names. The nodes have names of the demo network, whose engines'
    layers the TensorRT stand-in lists.
    """
    spec = spec or fake_spec()
    cells = (spec.height_px // 6, spec.width_px // 2)
    weight = np.random.default_rng(seed).standard_normal((36, spec.dimension)).astype(np.float32)
    constants = {
        "weight": weight,
        "half": np.float32(127.5),
        "flat": np.array([0, 36], np.int64),
        "small": np.float32(1e-6),
    }
    takes_planes = spec.input == FLOAT32_NCHW
    first = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], name="node__to_copy", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], name="node_permute", perm=[0, 3, 1, 2]),
    ]
    nodes = [
        *([] if takes_planes else first),
        helper.make_node("Sub", [INPUT_NAME if takes_planes else "channels", "half"], ["centred"], name="node_add"),
        helper.make_node(
            "AveragePool", ["centred"], ["pooled"], name="node_max_pool2d", kernel_shape=cells, strides=cells
        ),
        helper.make_node("Reshape", ["pooled", "flat"], ["rows"], name="node_Reshape_62"),
        helper.make_node("MatMul", ["rows", "weight"], ["features"], name="node_matmul"),
        helper.make_node("ReduceL2", ["features"], ["norm"], name="node_sum_5", axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "small"], ["length"], name="node_clamp_min"),
        helper.make_node("Div", ["features", "length"], [OUTPUT_NAME], name="node_div"),
    ]
    pixels = TensorProto.FLOAT if takes_planes else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, pixels, ["batch", *spec.input_shape])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", spec.dimension])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.load_model_from_string(contract_file(model.SerializeToString(), spec))


def save_tiny_model(path: Path, spec: ModelSpec | None = None, *, seed: int = 0) -> Path:
    """Write :func:`tiny_model` to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(tiny_model(spec, seed=seed), str(path))
    return path


def save_changed_model(path: Path, model: onnx.ModelProto, spec: ModelSpec | None = None) -> Path:
    """Write a model whose graph was changed, with the sum of the changed graph."""
    path.write_bytes(contract_file(model.SerializeToString(), spec or fake_spec()))
    return path


def of_format_1(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the metadata of format 1, which has no sum of the weights."""
    entries = {entry.key: entry.value for entry in model.metadata_props} | {"rrid.format": "1"}
    del entries[WEIGHTS_KEY]
    helper.set_model_props(model, entries)
    return model
