"""int8 of networks with depthwise convolutions and linear bottlenecks, as in MobileNetV2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rrid_calib.forms import Trial, choose_form
from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers
from rrid_calib.ranges import Range
from rrid_calib.rounding import empty_moments, rounded_weights
from rrid_calib.settings import CalibrationSettings
from rrid_calib.weights import quantised_weights
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME
from support.int8 import run_as_written, small_model


def _depthwise(generator):
    """A depthwise convolution whose channels' weights differ by a factor of 1000: model, input and weights."""
    scales = np.array([1, 0.03, 0.001], np.float32)
    weights = generator.standard_normal((3, 1, 3, 3)).astype(np.float32) * scales[:, None, None, None]
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "depthwise", group=3, pads=[1, 1, 1, 1])
    model = small_model([conv], {"x": [4, 3, 6, 5]}, {"y": [4, 3, 6, 5]}, {"w": weights})
    return model, generator.uniform(0, 6, (4, 3, 6, 5)).astype(np.float32), weights


def _convolved(values, weights):
    """Each channel with its own 3 x 3 kernel, padded by one zero; in whole numbers where both are."""
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = values.shape[2:]
    return sum(
        padded[:, :, y : y + rows, x : x + columns] * weights[:, 0, y, x][:, None, None]
        for y in range(3)
        for x in range(3)
    )


@pytest.mark.parametrize("signed", [True, False])
def test_each_channel_of_a_depthwise_convolution_has_a_scale_of_its_own(signed):
    model, values, weights = _depthwise(np.random.default_rng(5))
    result = Form("int8", {"x": Range(6.0, unsigned=True)}, signed=signed).build(model)
    largest = 127 if signed else 255
    steps = np.abs(weights).max(axis=(1, 2, 3)) / np.float32(127)
    integers = np.rint(values * np.float32(largest / 6)).astype(int)
    kernels = np.rint(weights / steps[:, None, None, None]).astype(int)
    assert np.abs(kernels).max(axis=(1, 2, 3)).tolist() == [127, 127, 127]
    expected = _convolved(integers, kernels) * steps[:, None, None] * 6 / largest
    np.testing.assert_allclose(run_as_written(result, values), expected, rtol=1e-5, atol=1e-6)


def test_rounding_errors_of_a_depthwise_convolution_cancel_per_channel():
    model, values, weights = _depthwise(np.random.default_rng(6))
    (layer,) = int8_layers(model)
    moments = empty_moments(model)
    moments.add("x", values)
    nearest, steps = quantised_weights(weights)
    exact, errors = _convolved(values, weights), []
    for rounded in (nearest, rounded_weights(model, moments)[layer.weight]):
        found = _convolved(values, rounded * steps[:, None, None, None])
        errors.append(np.sqrt(np.square(found - exact).mean(axis=(0, 2, 3))) / steps)
    assert (errors[1] <= errors[0]).all()
    assert errors[1].sum() < 0.6 * errors[0].sum()


def _bottleneck():
    """A linear bottleneck behind a linear convolution: the residual add reads two convolutions, as in MobileNetV2."""
    ones = {name: np.ones((2, 2, 1, 1), np.float32) for name in ("w1", "w2", "w3", "w4")}
    names = (("x", "w1", "a"), ("a", "w2", "b"), ("b", "w3", "c"), ("s", "w4", "y"))
    convs = [helper.make_node("Conv", [source, weight], [made], f"makes {made}") for source, weight, made in names]
    add = helper.make_node("Add", ["a", "c"], ["s"], "add")
    return small_model([*convs[:3], add, convs[3]], {"x": [1, 2, 3, 3]}, {"y": [1, 2, 3, 3]}, ones)


@pytest.mark.parametrize("first", ["a", "c"])
def test_the_residual_of_a_linear_bottleneck_is_what_others_read_too(first):
    """A runtime fuses the last convolution and the add, so that one's output must not be rounded before the add."""
    model = _bottleneck()
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[:] = [first, {"a": "c", "c": "a"}[first]]
    assert [layer.residual for layer in int8_layers(model)] == [None, None, "a", None]
    ranges = dict.fromkeys(("x", "a", "b", "s"), Range(12.7))  # c has none: it stays in float32
    result = Form("int8", ranges, signed=True).build(model)
    assert set(next(node for node in result.graph.node if node.op_type == "Add").input) == {"a_dequantised", "c"}
    # By hand: x = 1 gives a = 2, b = 4, c = 8, and 10 + 10 = 20 behind the add, of which 12.7 + 12.7 are not clipped.
    np.testing.assert_allclose(run_as_written(result, np.ones((1, 2, 3, 3), np.float32)), 20, rtol=1e-6)


def test_a_tensor_that_is_added_to_itself_is_no_residual():
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], "a"), helper.make_node("Add", ["a", "a"], ["y"], "double")]
    model = small_model(nodes, {"x": [1, 1, 2, 2]}, {"y": [1, 1, 2, 2]}, {"w": np.ones((1, 1, 1, 1), np.float32)})
    assert [layer.residual for layer in int8_layers(model)] == [None]


def _with_faint_channels():
    """Pixels, a convolution whose channels reach 1 and three times 0.001, a depthwise one that evens them, and a tail.

    A step of uint8 is 1 / 255, of int8 1 / 127: the three faint channels become 0 before the depthwise convolution.
    """
    reach = np.array([1, 0.001, 0.001, 0.001], np.float32)
    generator = np.random.default_rng(8)
    mixed = (np.eye(4, 3) + np.eye(4, 3, -1)).astype(np.float32) / 2
    constants = {
        "share": np.array(1 / 255, np.float32),
        "first_w": mixed[:, :, None, None] * reach[:, None, None, None],
        "depthwise_w": np.tile(1 / reach[:, None, None, None], (1, 1, 3, 3)).astype(np.float32) / 9,
        "tail_w": generator.standard_normal((256, 4, 1, 1)).astype(np.float32),
    }
    make = helper.make_node
    nodes = [
        make("Cast", ["images"], ["values"], "cast", to=TensorProto.FLOAT),
        make("Transpose", ["values"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        make("Mul", ["planes", "share"], ["pixels"], "scale"),
        make("Conv", ["pixels", "first_w"], ["a"], "first"),
        make("Relu", ["a"], ["b"], "relu"),
        make("Conv", ["b", "depthwise_w"], ["c"], "depthwise", group=4),
        make("Conv", ["c", "tail_w"], ["d"], "tail"),
        make("ReduceMax", ["d"], ["features"], "pool", axes=[2, 3], keepdims=0),
        make("ReduceL2", ["features"], ["length"], "norm", axes=[1]),
        make("Div", ["features", "length"], [OUTPUT_NAME], "unit"),
    ]
    info, shape = helper.make_tensor_value_info, ["batch", 8, 4, 3]
    graph = helper.make_graph(
        nodes,
        "faint",
        [info(INPUT_NAME, TensorProto.UINT8, shape)],
        [info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", 256])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_depthwise_convolution_that_int8_damages_stays_in_float32():
    model = _with_faint_channels()
    pixels = np.random.default_rng(9).integers(0, 256, (24, 8, 4, 3), np.uint8)
    trial, said = Trial(model, pixels[:12], ("all",)), list[str]()
    settings = CalibrationSettings(method="minmax", rounding="nearest")
    choice = choose_form(trial, pixels[12:], settings, said.append)
    assert choice.float_layers[:1] == choice.cpu_float_layers[:1] == ("depthwise",)
    whole = [trial.agreement(replace(choice.form, signed=signed)).mean_cosine for signed in (True, False)]
    kept = [
        trial.agreement(form, layers).mean_cosine
        for form, layers in ((choice.form, choice.float_layers), (choice.cpu_form, choice.cpu_float_layers))
    ]
    assert max(whole) < 0.9
    assert min(kept) > 0.999
