"""What older parsers of TensorRT refuse, for the stand-in."""

from __future__ import annotations

from pathlib import Path

import onnx


def complaint(model: Path, version: str) -> str | None:
    """Return the parser's error for a file; None if it parses.

    Parsers before 10.4 refused a convolution whose weights are computed (int8: by DequantizeLinear) and that names no
    ``kernel_shape``. NVIDIA's 8.6.0 did so.
    """
    if version.startswith("rtx") or tuple(map(int, version.split(".")[:2])) >= (10, 4):
        return None
    graph = onnx.load_model(str(model)).graph
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        named = any(attribute.name == "kernel_shape" for attribute in node.attribute)
        if node.op_type == "Conv" and node.input[1] not in constants and not named:
            return f"{node.name}: the kernel's shape is unknown"
    return None
