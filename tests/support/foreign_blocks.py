"""Small re-ID networks of other programs: one with the blocks of modern networks, and a ResNet-18."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT_PX, WIDTH_PX, VALUES = 24, 16, 16
_CHANNELS = 8


class _Network:
    """A network in the making; each step returns the name of what it makes."""

    values = VALUES

    def __init__(self) -> None:
        self._generator = np.random.default_rng(11)
        self._constants: list[Any] = []
        self._nodes: list[Any] = []

    def weight(self, name: str, shape: tuple[int, ...], inputs: int) -> str:
        values = self._generator.normal(0, (2 / inputs) ** 0.5, shape).astype(np.float32)
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, source: str, inputs: int, outputs: int, kernel: int, *, group: int = 1, **attributes: Any) -> str:
        name = f"conv-{len(self._nodes)}"
        inputs //= group
        weight = self.weight(f"{name}-w", (outputs, inputs, kernel, kernel), inputs * kernel**2)
        bias = self.weight(f"{name}-b", (outputs,), 20)
        pads = [kernel // 2] * 4
        return self.step("Conv", source, weight, bias, output=name, group=group, pads=pads, **attributes)

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
            [info("features", TensorProto.FLOAT, ["N", self.values])],
            self._constants,
        )
        onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), str(path))
        return path


class Blocks(_Network):
    """A network with a depthwise residual block, gates that share weights, a concatenation and a Gemm head.

    Args:
        extra: nodes between the pooled features ``pooled`` (N, 16) and the head, which reads ``row``; None for none.
    """

    def __init__(self, extra: Sequence[Any] | None = None) -> None:
        super().__init__()
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


class ResNet18(_Network):
    """The layers of a ResNet-18, with 4 to 32 channels and with batch norms behind the convolutions."""

    values = 32

    def __init__(self) -> None:
        super().__init__()
        last = self.step("Relu", self._normed(self.conv("pixels", 3, 4, 7, strides=[2, 2])))
        last = self.step("MaxPool", last, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        inputs = 4
        for channels in (4, 8, 16, 32):
            for _block in range(2):
                strides = [1 + (channels > inputs)] * 2
                inner = self.step("Relu", self._normed(self.conv(last, inputs, channels, 3, strides=strides)))
                added = self._normed(self.conv(inner, channels, channels, 3))
                if channels > inputs:
                    last = self._normed(self.conv(last, inputs, channels, 1, strides=strides))
                last, inputs = self.step("Relu", self.step("Add", added, last)), channels
        self.step("Flatten", self.step("GlobalAveragePool", last), output="features")

    def _normed(self, made: str) -> str:
        channels = {tensor.name: tensor.dims[0] for tensor in self._constants}[f"{made}-b"]
        names = []
        for part, low, high in (("gamma", 0.5, 1.0), ("beta", -0.2, 0.2), ("mean", -0.2, 0.2), ("var", 0.5, 1.5)):
            values = self._generator.uniform(low, high, channels).astype(np.float32)
            names.append(f"{made}-{part}")
            self._constants.append(numpy_helper.from_array(values, names[-1]))
        return self.step("BatchNormalization", made, *names)
