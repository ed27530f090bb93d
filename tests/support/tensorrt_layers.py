"""The inspector's answers of the TensorRT stand-in: those recorded from NVIDIA's libraries, with types of a precision.

TensorRT 8.6's list is that of 8.6.0, those of 10 and 11 are TensorRT for RTX's, all of the demo network's fp16 model.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "tensorrt"
RECORDED_8_6 = DATA / "inspector_8.6.0_fp32_resolved.json"
RECORDED_8_6_WITHOUT_SHAPES = DATA / "inspector_8.6.0_fp16.json"
RECORDED_RTX = DATA / "inspector_rtx_fp16.json"
LOGGED_RTX_1_4 = DATA / "log_rtx_1.4.0.76_fp16.txt"
LOGGED_RTX = DATA / "log_rtx_1.7.1.116_fp16.txt"
LOGGED_RTX_INT8 = DATA / "log_rtx_1.7.1.116_int8.txt"
"""Layers in the verbose log of TensorRT for RTX: a ResNet-18 with few channels, built without a GPU."""
NO_SHAPES = "N/A due to dynamic shapes"
PRODUCTS = 23
"""Convolutions and matrix products of the demo network: 20 and 3."""
_PRODUCT_NODES = ("node_conv2d", "node_matmul")
_TAIL_NODES = ("node_view_4", "node_sum_4", "node_pow_1", "node_sum_5", "node_sqrt", "node_clamp_min", "node_div")
_OLD_TYPES = {
    "single": "Row major linear FP32",
    "half": "Channel major FP16 format where channel % 8 == 0",
    "int8": "Thirty-two wide channel vectorized row major Int8 format",
}
_NEW_TYPES = {"single": "Float", "half": "Half", "int8": "Int8"}
_KERNELS = {"single": "f32f32_f32f32_f32", "half": "f16f16_f16f16_f16", "int8": "i8i8_i8i32_f32"}


def read_recorded(path: Path) -> dict[str, Any]:
    """Return a recorded answer as Python values. It is no strict JSON."""
    return json.loads(path.read_bytes().decode("utf-8"), strict=False)


@functools.cache
def answer(generation: int, precision: str, *, shaped: bool, tail: str = "single") -> str:
    """Return the inspector's answer for an engine.

    Args:
        generation: 8, 10 or 11.
        precision: ``fp32``, ``fp16`` or ``int8``: the type that convolutions and matrix products multiply in.
        shaped: whether the shapes were resolved; otherwise there are no types.
        tail: type of the layers of the norm.
    """
    values = read_recorded(RECORDED_8_6 if generation == 8 else RECORDED_RTX)
    kind = {"fp32": "single", "fp16": "half", "int8": "int8"}[precision]
    for layer in values["Layers"]:
        (_type_old if generation == 8 else _type_new)(layer, kind, tail)
        for tensor in _tensors(layer):
            if generation == 10:
                tensor["Format/Datatype"] = tensor.pop("Datatype")
                del tensor["Format"]
            if not shaped:
                tensor["Datatype" if generation == 11 else "Format/Datatype"] = NO_SHAPES
    if generation == 10:
        values["Bindings"] = [tensor["Name"] for tensor in values.pop("I/O Tensors")]
    text = json.dumps(values, indent=1)
    # NVIDIA's libraries write the separators of Metadata as they are.
    return text.replace("\\u001e", "\x1e").replace("\\u001f", "\x1f")


def logged(precision: str) -> str:
    """Return the message with which TensorRT for RTX lists an engine's layers when it was built."""
    if precision == "int8":
        return LOGGED_RTX_INT8.read_text(encoding="utf-8")
    text = LOGGED_RTX.read_text(encoding="utf-8")
    return text if precision == "fp16" else text.replace("Datatype: Half", "Datatype: Float")


def _type_old(layer: dict[str, Any], kind: str, tail: str) -> None:
    wanted = _wanted_type(layer, kind, tail, is_product=layer.get("ParameterType") in ("Convolution", "MatrixMultiply"))
    for tensor in _tensors(layer):
        if wanted is not None:
            tensor["Format/Datatype"] = _OLD_TYPES[wanted]
    if wanted == kind and "TacticName" in layer:
        layer["TacticName"] = f"sm80_xmma_{_KERNELS[kind]}"
        if "Weights" in layer:
            layer["Weights"]["Type"] = _NEW_TYPES[kind]


def _type_new(layer: dict[str, Any], kind: str, tail: str) -> None:
    wanted = _wanted_type(layer, kind, tail, is_product=layer["LayerType"] in ("correlation", "runtime_fusion"))
    tensors = layer["Outputs"] if wanted == tail != kind else _tensors(layer)  # the tail's layer also casts
    for tensor in tensors:
        if wanted is not None and tensor["Datatype"] in _NEW_TYPES.values():
            tensor["Datatype"] = _NEW_TYPES[wanted]


def _wanted_type(layer: dict[str, Any], kind: str, tail: str, *, is_product: bool) -> str | None:
    """Return the type that a layer gets; None leaves the recorded types."""
    nodes = layer["Metadata"] + layer["Name"]
    if is_product:
        assert any(name in nodes for name in _PRODUCT_NODES)
        return kind
    if any(name in nodes for name in _TAIL_NODES):
        return tail
    return "single" if kind == "single" and "UInt8" not in str(layer["Inputs"]) else None


def _tensors(layer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from layer["Inputs"]
    yield from layer["Outputs"]
