"""The graph around a foreign network: pixels in, descriptors of unit length out.

Cast -> order of channels -> scale and shift -> layout -> [two views] -> network -> [sum of views] -> float32 L2 norm.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from rrid_edge.model.preprocessing import NETWORK_PREFIX
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.graphs import BATCH, declare
from rrid_export.adopt.tidy import tidy
from rrid_export.onnx_weights import put_weights, take_weights

_FED, _MADE = "fed", "made"
_SMALLEST_LENGTH: Final = 1e-12
_IR_VERSION: Final = 8
_FAR: Final = -(1 << 62)


class _Graph:
    """A small graph in the making: each step takes the last tensor."""

    def __init__(self, part: str, start: str) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._part, self.last = part, start

    def step(self, operator: str, *others: str, name: str = "", first: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node that takes ``first``, or the last tensor, and ``others``."""
        output = name or f"{self._part}/{operator.lower()}-{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [first or self.last, *others], [output], output, **attributes))
        self.last = output
        return output

    def constant(self, values: NDArray[Any], name: str) -> str:
        self.constants.append(numpy_helper.from_array(values, f"{self._part}/{name}"))
        return f"{self._part}/{name}"

    def numbers(self, name: str, *values: int) -> str:
        """A constant of whole numbers."""
        return self.constant(np.array(values, np.int64), name)

    def model(self, inputs: list[Any], outputs: list[Any], opsets: Any) -> Any:  # noqa: ANN401 - protobuf messages
        graph = helper.make_graph(self.nodes, "rrid-edge", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def composed(network: Any, facts: Facts, dimension: int) -> Any:  # noqa: ANN401 - protobuf messages
    """An adopted network as one graph that keeps the model contract.

    Args:
        network: the foreign graph, as :func:`rrid_export.adopt.graphs.prepared` returns it; it is changed.
        facts: what it is fed.
        dimension: values of its descriptor.
    """
    names = facts.preprocessing
    tidy(network)
    half = _is_half(network.graph.input[0])
    inner = compose.add_prefix(network, NETWORK_PREFIX)
    inner.ir_version = _IR_VERSION
    before = _before(facts, half=half, opsets=inner.opset_import)
    after = _after(facts, dimension, half=_is_half(inner.graph.output[0]), opsets=inner.opset_import)
    model = compose.merge_models(before, inner, io_map=[(_FED, NETWORK_PREFIX + names.input)])
    model = compose.merge_models(model, after, io_map=[(names.features, _MADE)])
    model.graph.name, model.producer_name = "rrid-edge", "rrid-edge"
    opset = model.opset_import[0].version
    del model.metadata_props[:], model.graph.value_info[:], model.opset_import[:]
    model.opset_import.add(domain="", version=opset)
    weights = take_weights(model)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    put_weights(model, weights)
    declare(model.graph.output[0], (BATCH, dimension))
    return model


def _before(facts: Facts, *, half: bool, opsets: Any) -> Any:  # noqa: ANN401 - protobuf messages
    """From uint8 RGB pixels (batch, height, width, 3) to what the network is fed."""
    given = facts.preprocessing
    graph = _Graph("before", INPUT_NAME)
    graph.step("Cast", to=TensorProto.FLOAT)
    if given.color == "bgr":
        graph.step("Gather", graph.numbers("bgr", 2, 1, 0), axis=3)
    scale, shift = facts.scale_and_shift
    graph.step("Mul", graph.constant(scale, "scale"))
    graph.step("Sub", graph.constant(shift, "shift"))
    if facts.flip:  # beside each other, so that the batch stays the first axis
        plain = graph.step("Unsqueeze", graph.numbers("view", 1))
        numbers = [graph.numbers(name, value) for name, value in (("from", -1), ("to", _FAR), ("axis", 3), ("by", -1))]
        mirrored = graph.step("Slice", *numbers)
        graph.step("Concat", mirrored, first=plain, axis=1)
        graph.step("Reshape", graph.numbers("views", -1, facts.height_px, facts.width_px, 3))
    if given.layout == "nchw":
        graph.step("Transpose", perm=[0, 3, 1, 2])
    if half:
        graph.step("Cast", to=TensorProto.FLOAT16)
    graph.step("Identity", name=_FED)
    shape = [BATCH, facts.height_px, facts.width_px, 3]
    images = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape)
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    fed = helper.make_tensor_value_info(_FED, kind, [None, *facts.fed_shape])
    return graph.model([images], [fed], opsets)


def _after(facts: Facts, dimension: int, *, half: bool, opsets: Any) -> Any:  # noqa: ANN401 - protobuf messages
    """From the network's output to float32 descriptors (batch, dimension)."""
    graph = _Graph("after", _MADE)
    if half:
        graph.step("Cast", to=TensorProto.FLOAT)
    if facts.flip:
        graph.step("Reshape", graph.numbers("pairs", -1, 2, dimension))
        graph.step("ReduceSum", graph.numbers("pair", 1), keepdims=0)
    if facts.flip or facts.preprocessing.normalise == "l2":  # the mean of two unit vectors is shorter than 1
        values = graph.last
        graph.step("Mul", values)
        graph.step("ReduceSum", graph.numbers("values", 1), keepdims=1)
        graph.step("Sqrt")
        graph.step("Max", graph.constant(np.array(_SMALLEST_LENGTH, np.float32), "smallest"))
        graph.step("Div", graph.last, first=values)
    graph.step("Identity", name=OUTPUT_NAME)
    made = helper.make_tensor_value_info(_MADE, TensorProto.FLOAT16 if half else TensorProto.FLOAT, [None, None])
    out = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [BATCH, dimension])
    return graph.model([made], [out], opsets)


def _is_half(value: Any) -> bool:  # noqa: ANN401 - a protobuf message
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT16)
