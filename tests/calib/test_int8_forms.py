"""The forms of an int8 graph: uint8 where no value is negative, quantised before pooling, and the head's products."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rrid_calib.calibrate import calibrate
from rrid_calib.forms import Trial, choose_form
from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers, read_graph
from rrid_calib.ranges import Histogram, Range
from rrid_calib.settings import CalibrationSettings
from rrid_calib.weights import as_stored, in_rows, quantised_weights
from rrid_edge.errors import CheckFailedError, UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.nodes import read_node_names
from rrid_export.trtexec import trtexec_command
from support.int8 import FORMS, form_of, measured, run_as_written, small_model
from support.onnx_models import save_changed_model
from support.pictures import noise, save_crops


def _constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


# uint8 and int8


@pytest.mark.parametrize(
    ("smallest", "unsigned"),
    # A step of uint8 is 0.1. Everything above minus half a step is rounded to 0.
    [(0.0, True), (-0.049, True), (-0.051, False), (-25.5, False)],
)
def test_a_range_is_unsigned_if_no_value_is_rounded_below_zero(smallest, unsigned):
    histogram = Histogram()
    histogram.add(np.array([smallest, 25.5], np.float32))
    found = Range.of(histogram.clip_limit("minmax"), histogram.smallest)
    assert found == Range(25.5, unsigned)
    assert (found.step(unsigned=True), found.step(unsigned=False)) == (25.5 / 255, 25.5 / 127)


@pytest.fixture(scope="module")
def network(narrow_export):
    model = read_graph(narrow_export / "rrid.onnx")
    return model, measured(model, np.stack([np.asarray(noise(seed, 96, 32)) for seed in range(2)]))


@pytest.mark.parametrize("name", FORMS)
def test_both_files_differ_in_zero_points_and_steps_of_positive_activations_only(network, name):
    model, ranges = network
    signed, unsigned = (form_of(model, name, ranges, signed=signed).build(model) for signed in (True, False))
    strip = {"int8_zero": "zero", "uint8_zero": "zero"}
    bare = [
        [(node.op_type, node.name, [strip.get(item, item) for item in node.input], list(node.output)) for node in graph]
        for graph in (signed.graph.node, unsigned.graph.node)
    ]
    assert bare[0] == bare[1]
    one, other = _constants(signed), _constants(unsigned)
    assert one.keys() - {"int8_zero"} == other.keys() - {"int8_zero", "uint8_zero"}
    changed = {key for key in one.keys() & other.keys() if not np.array_equal(one[key], other[key])}
    positive = {key for key, found in ranges.items() if found.unsigned}
    rests = {f"{layer.name}_rest_scale" for layer in int8_layers(model)}
    assert changed - rests == {f"{key}_scale" for key in positive if f"{key}_scale" in one}
    assert len(changed) > 15
    for key in changed:
        assert other[key] == pytest.approx(one[key] * 127 / 255, rel=1e-6)
    # Pixels, and the outputs of projections that are added as residuals, keep their sign.
    assert {key for key in ranges if key not in positive} == {"_unsafe_view", "conv2d_7", "conv2d_12", "conv2d_17"}


# Quantisation before pooling


def _pooled(readers=()):
    """Relu, MaxPool, a convolution of one output, and other readers of the pooled values."""
    constants = {"w": np.array([[[[1.0, -0.5], [0.25, 0.125]]]], np.float32)}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p", "w"], ["c"], "conv", kernel_shape=[2, 2]),
        *readers,
    ]
    outputs = {"c": [1, 1, 3, 3]} if not readers else {readers[-1].output[0]: [1, 1, 4, 4]}
    return small_model(nodes, {"x": [1, 1, 8, 8]}, outputs, constants)


@pytest.mark.parametrize("signed", [True, False])
def test_quantisation_before_pooling_equals_integer_arithmetic(signed):
    values = np.random.default_rng(3).uniform(-4, 9, (1, 1, 8, 8)).astype(np.float32)
    result = Form("int8", {"p": Range(6.0, unsigned=True)}, signed=signed).build(_pooled())
    makers = {node.output[0]: node for node in result.graph.node}
    pool = next(node for node in result.graph.node if node.op_type == "MaxPool")
    assert makers[pool.input[0]].op_type == "DequantizeLinear"
    assert next(node for node in result.graph.node if node.op_type == "Conv").input[0] == "p"
    # By hand: the pooled values are quantised after the pooling, and all products are integers.
    largest = 127 if signed else 255
    step = np.float32(6 / largest)
    padded = np.pad(np.maximum(values, 0), ((0, 0), (0, 0), (1, 1), (1, 1)))[0, 0]
    pooled = np.array([[padded[2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max() for x in range(4)] for y in range(4)])
    integers = np.minimum(np.rint(pooled / step), largest).astype(int)
    assert (integers == largest).any()  # some values are clipped
    weights = np.array([[127, -64], [32, 16]])  # 0.5, 0.25 and 0.125 of 127, rounded
    sums = [[(integers[y : y + 2, x : x + 2] * weights).sum() for x in range(3)] for y in range(3)]
    np.testing.assert_allclose(run_as_written(result, values)[0, 0], np.array(sums) * step / 127, rtol=1e-6, atol=1e-6)


def test_quantisation_stays_behind_pooling_that_others_read_in_float32():
    other = helper.make_node("Neg", ["p"], ["n"], "neg")
    result = Form("int8", {"p": Range(6.0, unsigned=True)}).build(_pooled([other]))
    pool = next(node for node in result.graph.node if node.op_type == "MaxPool")
    assert pool.input[0] == "r"
    values = np.random.default_rng(3).uniform(-4, 9, (1, 1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run_as_written(result, values), run_as_written(_pooled([other]), values))


def test_two_poolings_in_a_row_both_pass_integers_on():
    constants = {"w": np.ones((1, 1, 1, 1), np.float32)}
    pools = [helper.make_node("MaxPool", [a], [b], b, kernel_shape=[2, 2], strides=[2, 2]) for a, b in ("xp", "pq")]
    conv = helper.make_node("Conv", ["q", "w"], ["c"], "conv", kernel_shape=[1, 1])
    model = small_model([*pools, conv], {"x": [1, 1, 8, 8]}, {"c": [1, 1, 2, 2]}, constants)
    result = Form("int8", {"q": Range(1.0, unsigned=True)}).build(model)
    order = [node.op_type for node in result.graph.node if node.name != "w_dequantise"]
    assert order == ["QuantizeLinear", "DequantizeLinear", "MaxPool", "MaxPool", "Conv"]
    values = np.random.default_rng(4).uniform(0, 1, (1, 1, 8, 8)).astype(np.float32)
    pooled = values[0, 0].reshape(2, 4, 2, 4).max(axis=(1, 3))
    np.testing.assert_allclose(run_as_written(result, values)[0, 0], np.rint(pooled * 255) / 255, rtol=1e-6)


# The head's products


def _product(generator):
    """A batched product (2, 3, 5) x (2, 5, 4), its input and its weights."""
    weights = generator.standard_normal((2, 5, 4)).astype(np.float32) * np.array([1, 20], np.float32)[:, None, None]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    model = small_model(nodes, {"x": [2, 3, 5]}, {"y": [2, 3, 4]}, {"w": weights})
    return model, generator.uniform(0, 2, (2, 3, 5)).astype(np.float32), weights


@pytest.mark.parametrize("signed", [True, False])
def test_a_batched_product_equals_a_grouped_convolution_in_integers(signed):
    """Each group and output keeps a scale of its own, as in the convolution with two groups."""
    model, values, weights = _product(np.random.default_rng(1))
    result = Form("int8", {"x": Range(2.0, unsigned=True)}, signed=signed).build(model)
    largest = 127 if signed else 255
    step = np.float32(2 / largest)
    integers = np.minimum(np.rint(values / step), largest).astype(int)
    expected = np.empty((2, 3, 4))
    for group in range(2):
        for output in range(4):
            column = weights[group, :, output]
            scale = np.abs(column).max() / np.float32(127)
            expected[group, :, output] = integers[group] @ np.rint(column / scale).astype(int) * step * scale
    np.testing.assert_allclose(run_as_written(result, values), expected, rtol=2e-6, atol=1e-5)
    # A DequantizeLinear has one scale per tensor or per channel, not one per group and output.
    found = _constants(result)
    assert (found["w_int8"].dtype, found["w_int8"].shape, found["w_scale"].shape) == (np.int8, (2, 5, 4), ())
    # Dequantised weights are no larger than the exact ones, so float16 does not overflow.
    assert np.abs(found["w_int8"] * found["w_scale"]).max() == pytest.approx(np.abs(weights).max(), rel=1e-6)


def test_two_steps_remove_nearly_all_error_of_the_input_of_a_product():
    model, values, weights = _product(np.random.default_rng(2))
    rounded, steps = quantised_weights(in_rows(weights, head=True))
    stored = as_stored(rounded, weights.shape, head=True)
    exact = values @ (stored * steps.reshape(2, 1, 4))
    errors = []
    for fine in ((), ("product",)):
        form = Form("int8", {"x": Range(float(values.max()), unsigned=True)}, two_step_layers=fine)
        errors.append(np.abs(run_as_written(form.build(model), values) - exact).max())
    assert 0 < errors[1] < errors[0] / 100


def test_weights_of_a_product_turn_into_rows_and_back():
    weights = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    rows = in_rows(weights, head=True)
    assert rows[5].tolist() == [13, 17, 21]  # group 1, output 1
    np.testing.assert_array_equal(as_stored(rows, weights.shape, head=True), weights)


# The file for CPUs


class _Scores(Trial):
    """Cosines by form: with int8 alone, only the last one reaches the targets; with uint8, the second one does."""

    def __init__(self, model) -> None:
        self.model = model

    def agreement(self, form, float_layers=(), count=None):
        reached = form.name == "float residuals" or (form.name == "fine head" and not form.signed)
        return _agreement(0.99999 if reached else 0.9995)


def _agreement(cosine):
    from rrid_edge.parity.agreement import compare

    one = np.eye(4, dtype=np.float32)
    other = one * np.float32(cosine) + np.roll(one, 1, axis=1) * np.float32(np.sqrt(1 - cosine**2))
    return compare(one, other, ("all",))


def test_the_file_for_cpus_takes_a_faster_form_if_that_reaches_the_targets(network, monkeypatch):
    model, _ = network
    monkeypatch.setattr("rrid_calib.forms.TOP1_TARGET", 0.0)
    pixels = np.stack([np.asarray(noise(seed, 96, 32)) for seed in range(2)])
    settings = CalibrationSettings(method="minmax", rounding="nearest")
    choice = choose_form(_Scores(model), pixels, settings, lambda _line: None)
    assert (choice.form.name, choice.form.signed) == ("float residuals", True)
    assert (choice.cpu_form.name, choice.cpu_form.signed) == ("fine head", False)
    assert choice.cpu_form.ranges == choice.form.ranges
    assert choice.float_layers == choice.cpu_float_layers == ()
    assert [(item.form, item.signed) for item in choice.compared][-2:] == [("int8", False), ("fine head", False)]


@pytest.fixture(scope="module")
def files(network, narrow_export, tmp_path_factory):
    """The int8 file for CPUs and the one for every runtime."""
    model, ranges = network
    folder, spec = tmp_path_factory.mktemp("files"), read_spec(narrow_export / "rrid.onnx").with_precision("int8")
    return [
        save_changed_model(folder / name, form_of(model, "int8", ranges, signed=signed).build(model), spec)
        for name, signed in (("rrid.cpu.int8.onnx", False), ("rrid.int8.onnx", True))
    ]


def test_tensorrt_gets_no_file_for_cpus(files, tmp_path):
    words = r"rrid.cpu.int8.onnx: this int8 file is for CPUs .*give rrid.int8.onnx"
    with pytest.raises(UsageError, match=words):
        build_engine(files[0], tmp_path / "m.engine")
    with pytest.raises(UsageError, match=words):
        trtexec_command(files[0], tmp_path / "m.engine", version="10.3")
    assert trtexec_command(files[1], tmp_path / "m.engine", version="10.3").arguments
    assert list(tmp_path.iterdir()) == []


def test_a_convolution_behind_a_pooling_of_int8_values_counts_as_int8(files):
    names = read_node_names(files[1])
    assert names.quantised == names.products
    assert len(names.products) == 23


def test_nothing_is_written_where_the_file_for_cpus_fails_parity(narrow_export, tmp_path, monkeypatch):
    save_crops(tmp_path / "crops", 16)
    shutil.copy(narrow_export / "rrid.onnx", tmp_path / "rrid.onnx")
    monkeypatch.setattr("rrid_calib.calibrate._prove", _refuse_cpu_file)
    settings = CalibrationSettings(count=8, measured=8, method="minmax", rounding="nearest", float_layers=0)
    with pytest.raises(CheckFailedError, match="the file for CPUs"):
        calibrate(tmp_path / "rrid.onnx", tmp_path / "crops", settings)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rrid.onnx"]


def _refuse_cpu_file(path, _goldens, _reference):
    zeros = {tensor.name for tensor in onnx.load(path).graph.initializer}
    if "uint8_zero" in zeros:
        raise CheckFailedError("the file for CPUs differs")
