"""Shapes of the tensors in an ONNX graph, for the operators that exported and quantised networks have.

Reference: the ONNX operator specifications. An operator that is not listed here has outputs of unknown shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from rrid_edge.model.onnx_graph import Constant, GraphNode, OnnxGraph

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

_SAME: Final = frozenset((
    "Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "DequantizeLinear", "Dropout", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log",
    "LpNormalization", "Neg", "Not", "PRelu", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
    "Softmax", "Softplus", "Sqrt", "Tanh",
))  # fmt: skip
_BROADCAST: Final = frozenset((
    "Add", "Div", "Equal", "Greater", "Less", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum", "Where",
))  # fmt: skip
_REDUCING: Final = frozenset((
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
))  # fmt: skip


def find_shapes(graph: OnnxGraph, inputs: Mapping[str, Shape]) -> Shapes:
    """Find the shapes of all tensors that follow from the shapes of the inputs.

    Args:
        graph: the graph; its nodes are in the order of computation, as ONNX demands.
        inputs: shapes of the graph's inputs.

    Returns:
        Shapes by name. A tensor is missing where its operator, or a shape that it needs, is unknown.

    Raises:
        ValueError: shapes contradict each other, as in a damaged graph.
    """
    constants = dict(graph.constants)
    shapes: Shapes = {name: constant.shape for name, constant in constants.items()} | dict(inputs)
    for node in graph.nodes:
        if node.constant is not None and node.outputs:
            constants[node.outputs[0]] = node.constant
            shapes[node.outputs[0]] = node.constant.shape
            continue
        known = [shapes.get(name) for name in node.inputs]
        if not node.outputs or node.domain or not known:
            continue
        shape = _output(_Call(node, constants, known))
        if shape is not None:
            shapes[node.outputs[0]] = shape
    return shapes


@dataclass(frozen=True)
class _Call:
    """A node with the shapes of its inputs; None for unknown ones."""

    node: GraphNode
    constants: Mapping[str, Constant]
    shapes: list[Shape | None]

    @property
    def first(self) -> Shape:
        return self.shapes[0] or ()

    def integers(self, name: str, default: Shape = ()) -> Shape:
        """An attribute that is a list."""
        value = self.node.attributes.get(name)
        return value if isinstance(value, tuple) else default

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a number."""
        value = self.node.attributes.get(name)
        return value if isinstance(value, int) else default

    def values(self, position: int) -> list[int] | None:
        """The integers of a constant input; None if it is left out, or no constant."""
        names = self.node.inputs
        constant = self.constants.get(names[position]) if position < len(names) else None
        return None if constant is None or constant.values is None else [int(value) for value in constant.values]

    def axes(self, position: int) -> list[int] | None:
        """Axes, an input since opset 13 or 18 and an attribute before; counted from the front."""
        axes = self.values(position) or list(self.integers("axes"))
        return [axis % len(self.first) for axis in axes] if axes and self.first else None


def _output(call: _Call) -> Shape | None:
    """The shape of a node's first output."""
    kind = call.node.operator
    if kind in _BROADCAST or kind in ("Concat", "MatMul", "Conv", "Gemm"):
        if any(shape is None for shape, name in zip(call.shapes, call.node.inputs, strict=True) if name):
            return None
    elif call.shapes[0] is None:
        return None
    if kind in _SAME:
        return call.first
    if kind in _BROADCAST:
        return np.broadcast_shapes(*(shape for shape in call.shapes if shape is not None))
    if kind in _REDUCING:
        return _reduced(call)
    rule = _RULES.get(kind)
    return None if rule is None else rule(call)


def _reduced(call: _Call) -> Shape | None:
    axes = call.axes(1)
    if axes is None:
        if len(call.node.inputs) > 1 and call.node.inputs[1] and call.values(1) is None:
            return None  # computed axes
        if call.integer("noop_with_empty_axes", 0):
            return call.first
        axes = list(range(len(call.first)))
    keep = call.integer("keepdims", 1)
    return tuple(1 if at in axes else size for at, size in enumerate(call.first) if keep or at not in axes)


def _convolved(call: _Call) -> Shape | None:
    weight = call.shapes[1]
    if weight is None or len(weight) < 3 or len(call.first) != len(weight):
        raise ValueError(f"{call.node.operator} of {call.first} with a weight of {weight}")
    return (call.first[0], weight[0], *_window(call, weight[2:]))


def _pooled(call: _Call) -> Shape | None:
    return (*call.first[:2], *_window(call, call.integers("kernel_shape")))


def _window(call: _Call, kernel: Shape) -> Shape:
    """Sizes after a sliding window. ``auto_pad``, which ONNX deprecates, is not looked at."""
    sizes = call.first[2:]
    if len(kernel) != len(sizes):
        raise ValueError(f"{call.node.operator} of {call.first} with a window of {kernel}")
    ones = (1,) * len(sizes)
    strides, dilations = call.integers("strides", ones), call.integers("dilations", ones)
    pads = call.integers("pads", (0,) * (2 * len(sizes)))
    rounding = math.ceil if call.integer("ceil_mode", 0) else math.floor
    return tuple(
        rounding((size + pads[axis] + pads[axis + len(sizes)] - dilations[axis] * (kernel[axis] - 1) - 1) / step) + 1
        for axis, (size, step) in enumerate(zip(sizes, strides, strict=True))
    )


def _pooled_whole(call: _Call) -> Shape | None:
    return (*call.first[:2], *(1 for _ in call.first[2:]))


def _product(call: _Call) -> Shape | None:
    left, right = call.first, call.shapes[1] or ()
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        raise ValueError(f"MatMul of {left} and {right}")
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def _general_product(call: _Call) -> Shape | None:
    left, right = call.first, call.shapes[1] or ()
    if len(left) != 2 or len(right) != 2:
        raise ValueError(f"Gemm of {left} and {right}")
    return left[1 if call.integer("transA", 0) else 0], right[0 if call.integer("transB", 0) else 1]


def _transposed(call: _Call) -> Shape | None:
    order = call.integers("perm", tuple(reversed(range(len(call.first)))))
    return tuple(call.first[axis] for axis in order)


def _reshaped(call: _Call) -> Shape | None:
    wanted = call.values(1)
    if wanted is None:
        return None
    if not call.integer("allowzero", 0):
        wanted = [call.first[at] if size == 0 else size for at, size in enumerate(wanted)]
    total, rest = math.prod(call.first), math.prod(size for size in wanted if size != -1)
    if wanted.count(-1) > 1 or rest == 0 or total % rest:
        raise ValueError(f"Reshape of {call.first} to {wanted}")
    return tuple(total // rest if size == -1 else size for size in wanted)


def _flattened(call: _Call) -> Shape | None:
    axis = call.integer("axis", 1) % (len(call.first) + 1)
    return math.prod(call.first[:axis]), math.prod(call.first[axis:])


def _unsqueezed(call: _Call) -> Shape | None:
    axes = call.values(1) or list(call.integers("axes"))
    if not axes:
        return None
    places, sizes = {axis % (len(call.first) + len(axes)) for axis in axes}, iter(call.first)
    return tuple(1 if at in places else next(sizes) for at in range(len(call.first) + len(axes)))


def _squeezed(call: _Call) -> Shape | None:
    axes = call.axes(1) or [at for at, size in enumerate(call.first) if size == 1]
    return tuple(size for at, size in enumerate(call.first) if at not in axes)


def _joined(call: _Call) -> Shape | None:
    axis = call.integer("axis", 0) % max(1, len(call.first))
    size = sum((shape or call.first)[axis] for shape in call.shapes)
    return (*call.first[:axis], size, *call.first[axis + 1 :])


def _sliced(call: _Call) -> Shape | None:
    starts, ends = call.values(1), call.values(2)
    if starts is None or ends is None:
        return None
    axes = call.axes(3) or list(range(len(starts)))
    steps = call.values(4) or [1] * len(starts)
    sizes = list(call.first)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        sizes[axis] = len(range(*slice(start, end, step).indices(sizes[axis])))
    return tuple(sizes)


_RULES: Final[Mapping[str, Callable[[_Call], Shape | None]]] = {
    "AveragePool": _pooled, "Concat": _joined, "Conv": _convolved, "Flatten": _flattened, "Gemm": _general_product,
    "GlobalAveragePool": _pooled_whole, "GlobalMaxPool": _pooled_whole, "MatMul": _product, "MaxPool": _pooled,
    "Reshape": _reshaped, "Slice": _sliced, "Squeeze": _squeezed, "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}  # fmt: skip
