"""Ranges and forms of int8 models, without a whole calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers
from rrid_calib.ranges import Range, collect, ranges_of

FORMS = ("int8", "fine head", "float residuals")
"""All forms of an int8 model: docs/decisions/int8-graph.md."""


def tensors_of(model: Any) -> list[str]:
    """Return the names of the activations that int8 quantises."""
    return [tensor for layer in int8_layers(model) for tensor in layer.tensors]


def measured(model: Any, pixels: NDArray[np.uint8]) -> dict[str, Range]:
    """Return the ranges of all activations over these images: what they hold, unclipped."""
    return ranges_of(collect(model, tensors_of(model), pixels), "minmax")


def made_up(model: Any, limit: float = 12.7) -> dict[str, Range]:
    """Return the same range for all activations."""
    return dict.fromkeys(tensors_of(model), Range(limit))


def form_of(model: Any, name: str, ranges: dict[str, Range], *, signed: bool = True, **more: Any) -> Form:
    """Return one of the forms."""
    heads = () if name == "int8" else tuple(layer.name for layer in int8_layers(model) if layer.head)
    return Form(name, ranges, two_step_layers=heads, float_residuals=name == "float residuals", signed=signed, **more)


def small_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    constants: Mapping[str, NDArray[Any]],
) -> Any:
    """Return a float32 model whose inputs and outputs have fixed shapes."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_as_written(model: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a model on its input ``x``, with no node fused, and return its first output."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": values})[0]
    return result
