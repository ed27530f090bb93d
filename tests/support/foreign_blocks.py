"""A small re-ID network of another program with the blocks of modern ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT_PX, WIDTH_PX, VALUES = 24, 16, 16
_CHANNELS = 8


class Blocks:
    """Writes a network with a depthwise residual block, gates that share weights, a concatenation and a Gemm head.

    Args:
        extra: nodes between the pooled features ``pooled`` (N, 16) and the head, which reads ``row``; None for none.
    """

    def __init__(self, extra: Sequence[Any] | None = None) -> None:
        self._generator = np.random.default_rng(11)
        self._constants: list[Any] = []
        self._nodes: list[Any] = []
        stem = self.conv("pixels", 3, _CHANNELS, 3, strides=[2, 2])
        wide = self.step("HardSwish", self.conv(self.step("Relu", stem), _CHANNELS, _CHANNELS, 1))
        deep = self.step("Relu", self.conv(wide, _CHANNELS, _CHANNELS, 3, group=_CHANNELS))
        added = self.step("Add", self.conv(deep, _CHANNELS, _CHANNELS, 1), wide)
        gate = self.weight("gate", (_CHANNELS, _CHANNELS, 1, 1), _CHANNELS)
        branches = [self.step("Mul", item, self._gate(item, gate)) for item in (added, self.step("Relu", stem))]
        self.step("GlobalAveragePool", self.step("Concat", *branches, axis=1), output="map")
        self.step("Flatten", "map", output="pooled" if extra else "row")
        self._nodes += extra or []
        head, bias = self.weight("head", (2 * _CHANNELS, VALUES), 2 * _CHANNELS), self.weight("bias", (VALUES,), VALUES)
        self.step("Gemm", "row", head, bias, output="features")

    def _gate(self, item: str, weight: str) -> str:
        return self.step("Sigmoid", self.step("Conv", self.step("GlobalAveragePool", item), weight))

    def weight(self, name: str, shape: tuple[int, ...], inputs: int) -> str:
        values = self._generator.normal(0, (2 / inputs) ** 0.5, shape).astype(np.float32)
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, source: str, inputs: int, outputs: int, kernel: int, *, group: int = 1, **attributes: Any) -> str:
        name = f"conv-{len(self._nodes)}"
        inputs //= group
        weight = self.weight(f"{name}-w", (outputs, inputs, kernel, kernel), inputs * kernel**2)
        bias = self.weight(f"{name}-b", (outputs,), 20)
        return self.step("Conv", source, weight, bias, group=group, pads=[kernel // 2] * 4, **attributes)

    def step(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}-{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, [*inputs], [output], **attributes))
        return output

    def write(self, path: Path) -> Path:
        """Write the ONNX file."""
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "blocks",
            [info("pixels", TensorProto.FLOAT, ["N", 3, HEIGHT_PX, WIDTH_PX])],
            [info("features", TensorProto.FLOAT, ["N", VALUES])],
            self._constants,
        )
        onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), str(path))
        return path
