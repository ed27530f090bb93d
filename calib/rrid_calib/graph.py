"""Write explicit int8 into an ONNX graph: QuantizeLinear and DequantizeLinear nodes, and int8 weights.

All zero points are 0. Weights are int8 with one scale per output channel. Activations have one scale per tensor: uint8
where no value is negative, else int8. The signed form, for TensorRT, has int8 everywhere. Biases, scaling of the
pixels, pooling of the head, the sum of the two views and the norm stay in float32. The reasons for this form and for
the positions of the nodes: ``docs/decisions/int8-graph.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_calib.kernels import name_kernels, set_nodes
from rrid_calib.layers import Layer, int8_layers
from rrid_calib.ranges import Range
from rrid_calib.weights import LARGEST, as_stored, in_rows, quantised_weights, weight_steps


@dataclass(frozen=True)
class Form:
    """One way to write a model in int8.

    Attributes:
        name: ``int8`` (all layers), ``fine head`` (the head's input is quantised in two steps) or ``float residuals``
            (as ``fine head``, with residual adds in float32).
        ranges: range of each activation in :attr:`Layer.tensors`.
        weights: weight name -> int8 weights, with the scales of :func:`weight_steps`; others are rounded to the nearest
            step.
        two_step_layers: names of layers whose input is quantised in two steps. The rounding error of the first step is
            quantised with a much smaller scale and goes through the same int8 weights. This doubles the layer's work
            and removes nearly all error of its input.
        float_residuals: add residuals in float32. This is more accurate, but convolution and residual add are then
            separate kernels.
        signed: write every activation as int8, which TensorRT needs. Otherwise those without negative values are uint8,
            with half the rounding error.
    """

    name: str
    ranges: Mapping[str, Range]
    weights: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    two_step_layers: tuple[str, ...] = ()
    float_residuals: bool = False
    signed: bool = False

    def build(self, model: Any, float_layers: Collection[str] = ()) -> Any:  # noqa: ANN401 - a protobuf message
        """Copy a float32 model with explicit int8, except in the layers in ``float_layers``."""
        result = copy.deepcopy(model)
        name_kernels(result.graph)
        layers = [layer for layer in int8_layers(result) if layer.name not in float_layers]
        if self.float_residuals:
            layers = [replace(layer, residual=None) for layer in layers]
        rewriter = _Rewriter(result.graph, self)
        for layer in layers:
            rewriter.quantise(layer)
        rewriter.finish()
        return result


class _Rewriter:
    """Rewrites a float32 graph to int8, layer by layer; :meth:`finish` puts the new nodes into the graph."""

    def __init__(self, graph: Any, form: Form) -> None:  # noqa: ANN401
        self._graph, self._form = graph, form
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = {node.name: node for node in graph.node}
        self._adder_of = {name: node.name for node in graph.node if node.op_type == "Add" for name in node.input}
        self._new_tensors = [numpy_helper.from_array(np.zeros((), kind), f"{kind}_zero") for kind in ("int8", "uint8")]
        self._new_nodes: list[Any] = []
        self._new_inputs: dict[tuple[str, str], str] = {}  # (node, tensor) -> tensor that the node reads instead
        self._quantised_activations: set[str] = set()
        self._stored_weights: dict[str, tuple[str, NDArray[np.float32] | None]] = {}

    def quantise(self, layer: Layer) -> None:
        """Quantise weights and activations of one layer."""
        node = self._nodes[layer.name]
        adder = self._adder_of.get(node.output[0])
        for tensor in layer.tensors:
            self._quantise_activation(tensor)
        self._new_inputs[layer.name, layer.source] = f"{layer.source}_dequantised"
        if layer.residual is not None and adder is not None:
            self._new_inputs[adder, layer.residual] = f"{layer.residual}_dequantised"
        weight, factors = self._quantise_weight(layer)
        self._new_inputs[layer.name, layer.weight] = weight
        if factors is not None:
            self._multiply(node, factors)
        if layer.name in self._form.two_step_layers:
            self._second_step(layer, node, weight)

    def finish(self) -> None:
        """Replace weights and nodes of the graph."""
        for node in self._graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = self._new_inputs.get((node.name, name), name)
        nodes = [*self._graph.node, *self._new_nodes]
        quantise_before_pooling(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [
            tensor
            for tensor in self._graph.initializer
            if tensor.name in used or tensor.name not in self._stored_weights
        ]
        new = [tensor for tensor in self._new_tensors if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *new])
        set_nodes(self._graph, nodes)

    def _quantise_activation(self, tensor: str) -> None:
        if tensor not in self._quantised_activations:
            self._quantised_activations.add(tensor)
            step, unsigned = self._step_of(tensor)
            self._quantise_dequantise(tensor, step, unsigned=unsigned)

    def _step_of(self, tensor: str) -> tuple[float, bool]:
        """The step of an activation, and whether it is uint8."""
        found = self._form.ranges[tensor]
        unsigned = found.unsigned and not self._form.signed
        return found.step(unsigned=unsigned), unsigned

    def _quantise_dequantise(self, tensor: str, step: float, *, unsigned: bool) -> None:
        """Add QuantizeLinear and DequantizeLinear nodes of an activation."""
        make, scale, zero = onnx.helper.make_node, f"{tensor}_scale", "uint8_zero" if unsigned else "int8_zero"
        quantised, dequantised = f"{tensor}_quantised", f"{tensor}_dequantised"
        self._new_tensors.append(numpy_helper.from_array(np.array(step, np.float32), scale))
        self._new_nodes += [
            make("QuantizeLinear", [tensor, scale, zero], [quantised], f"{tensor}_quantise"),
            make("DequantizeLinear", [quantised, scale, zero], [dequantised], f"{tensor}_dequantise"),
        ]

    def _quantise_weight(self, layer: Layer) -> tuple[str, NDArray[np.float32] | None]:
        """Store weights as int8, with their DequantizeLinear node.

        Returns:
            Name of the dequantised weights, and the factors of the layer's output, (G, 1, O) or (O,), for a MatMul:
            a DequantizeLinear cannot have one scale per group and output, so it has one scale for the whole tensor.
        """
        name = layer.weight
        if name in self._stored_weights:  # layers may share weights
            return self._stored_weights[name]
        exact = numpy_helper.to_array(self._weights[name])
        rows = in_rows(exact, head=layer.by_column)
        known = self._form.weights.get(name)
        values = as_stored(quantised_weights(rows)[0], exact.shape, head=layer.by_column) if known is None else known
        steps = weight_steps(rows)
        scale = steps.max() if layer.by_column else steps
        self._new_tensors += [
            numpy_helper.from_array(values, f"{name}_int8"),
            numpy_helper.from_array(scale, f"{name}_scale"),
            numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name}_zero"),
        ]
        inputs, output = [f"{name}_int8", f"{name}_scale", f"{name}_zero"], f"{name}_dequantised"
        axis = {} if layer.by_column else {"axis": 0}
        self._new_nodes.append(
            onnx.helper.make_node("DequantizeLinear", inputs, [output], f"{name}_dequantise", **axis)
        )
        if layer.by_column:
            groups = exact.shape[:-2]
            self._stored_weights[name] = output, (steps / scale).reshape(*groups, *[1] * len(groups), -1)
        else:
            self._stored_weights[name] = output, None
        return self._stored_weights[name]

    def _second_step(self, layer: Layer, node: Any, weight: str) -> None:  # noqa: ANN401
        """Quantise and multiply what the first step loses of the layer's input, and add it to the layer's output."""
        rest, first, output = f"{layer.name}_rest", f"{layer.source}_dequantised", node.output[0]
        step, _ = self._step_of(layer.source)
        second = copy.deepcopy(node)
        second.name, second.output[0], node.output[0] = f"{layer.name}_again", f"{rest}_multiplied", f"{output}_rounded"
        del second.input[:]
        second.input.extend([f"{rest}_dequantised", weight])
        self._quantise_dequantise(rest, step / (2 * LARGEST), unsigned=False)
        self._new_nodes += [
            onnx.helper.make_node("Sub", [layer.source, first], [rest], f"{rest}_take"),
            second,
            onnx.helper.make_node("Add", [node.output[0], second.output[0]], [output], f"{rest}_add"),
        ]

    def _multiply(self, node: Any, factors: NDArray[np.float32]) -> None:  # noqa: ANN401
        """Multiply the output of a layer by constants."""
        output, name = node.output[0], f"{node.name}_factors"
        node.output[0] = f"{output}_unscaled"
        self._new_tensors.append(numpy_helper.from_array(factors, name))
        self._new_nodes.append(onnx.helper.make_node("Mul", [node.output[0], name], [output], f"{node.name}_scale"))


def quantise_before_pooling(nodes: Collection[Any]) -> None:
    """Let pairs of QuantizeLinear and DequantizeLinear change places with the MaxPools before them.

    Rounding and clipping keep the order of values, so the largest value is the same before and after: this is exact.
    The layer before the MaxPool then writes int8. A pair stays where other nodes read the MaxPool's float32 values.
    """
    makers = {name: node for node in nodes for name in node.output}
    for quantise in [node for node in nodes if node.op_type == "QuantizeLinear"]:
        while _change_places(quantise, makers.get(quantise.input[0]), nodes):
            pass


def _change_places(quantise: Any, pool: Any, nodes: Collection[Any]) -> bool:  # noqa: ANN401
    """Put a pair before the node ``pool`` that makes its input, if that is exact; whether it was done."""
    if pool is None or pool.op_type != "MaxPool" or len(pool.output) > 1 or len(_readers(pool, nodes)) > 1:
        return False
    (dequantise,) = _readers(quantise, nodes)
    for reader in _readers(dequantise, nodes):
        for index, name in enumerate(reader.input):
            if name == dequantise.output[0]:
                reader.input[index] = pool.output[0]
    quantise.input[0], pool.input[0] = pool.input[0], dequantise.output[0]
    return True


def _readers(maker: Any, nodes: Collection[Any]) -> list[Any]:  # noqa: ANN401
    return [node for node in nodes if maker.output[0] in node.input]
