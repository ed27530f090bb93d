"""int8 forms of adopted networks: layers of any kind, what cannot be stored, and whole files."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rrid_calib.calibrate import calibrate
from rrid_calib.graph import Form
from rrid_calib.layers import float_nodes, int8_layers, read_graph, turn_gemms, weight_sizes
from rrid_calib.ranges import Range
from rrid_calib.rounding import SecondMoments
from rrid_calib.settings import CalibrationSettings
from rrid_edge.engines import open_engine
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.goldens import load_goldens
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from support.commands import rrid_edge
from support.foreign_blocks import Blocks
from support.int8 import form_of, made_up, run_as_written, small_model
from support.pictures import save_crops

CHOICES = Choices(color="rgb", scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
QUICK = CalibrationSettings(count=16, measured=16, method="minmax")


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["Gemm", "turned Gemm", "MatMul"])
def test_a_product_equals_one_in_integers(kind, signed):
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((5, 4)).astype(np.float32) * np.array([1, 20, 3, 0.1], np.float32)
    bias = generator.standard_normal(4).astype(np.float32)
    stored = weights.T.copy() if kind == "turned Gemm" else weights
    inputs, turned = (["x", "w"], {}) if kind == "MatMul" else (["x", "w", "b"], {"transB": int(kind == "turned Gemm")})
    node = helper.make_node(kind.split()[-1], inputs, ["y"], "product", **turned)
    model = small_model([node], {"x": [3, 5]}, {"y": [3, 4]}, {"w": stored, "b": bias})
    turn_gemms(model.graph)
    values = generator.uniform(0, 2, (3, 5)).astype(np.float32)
    limit, largest = float(values.max()), 127 if signed else 255
    form = Form("int8", {"x": Range(limit, unsigned=True)}, signed=signed)
    scales = np.abs(weights).max(axis=0) / np.float32(127)
    integers = np.rint(values / np.float32(limit / largest)).astype(int) @ np.rint(weights / scales).astype(int)
    expected = integers * (limit / largest) * scales + (0 if kind == "MatMul" else bias)
    np.testing.assert_allclose(run_as_written(form.build(model), values), expected, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_two_steps_remove_nearly_all_error_of_the_input(kind):
    generator = np.random.default_rng(2)
    weights = np.rint(generator.uniform(-127, 127, (5, 4))).astype(np.float32)
    weights[0] = 127  # so that int8 stores them exactly
    model = small_model(
        [helper.make_node(kind, ["x", "w"], ["y"], "product")], {"x": [3, 5]}, {"y": [3, 4]}, {"w": weights}
    )
    turn_gemms(model.graph)
    values = generator.uniform(0, 2, (3, 5)).astype(np.float32)
    errors = []
    for fine in ((), ("product",)):
        form = Form("int8", {"x": Range(float(values.max()), unsigned=True)}, two_step_layers=fine)
        errors.append(np.abs(run_as_written(form.build(model), values) - values @ weights).max())
    assert 0 < errors[1] < errors[0] / 100


def _sharing(readers=()):
    """Two convolutions with the same weights, and other readers of these weights."""
    weights = np.array([[0.5, -0.25], [0.125, 1.0]], np.float32)[:, :, None, None]
    nodes = [helper.make_node("Conv", [a, "w"], [b], b, kernel_shape=[1, 1]) for a, b in (("x", "p"), ("p", "q"))]
    return small_model([*nodes, *readers], {"x": [1, 2, 3, 3]}, {"q": [1, 2, 3, 3]}, {"w": weights})


def test_layers_that_share_weights_share_their_int8():
    model = _sharing()
    result = form_of(model, "int8", {"x": Range(1.0), "p": Range(2.0)}).build(model)
    assert sorted(tensor.name for tensor in result.graph.initializer if "w" in tensor.name) == [
        "w_int8", "w_scale", "w_zero",
    ]  # fmt: skip
    values = np.random.default_rng(3).uniform(-1, 1, (1, 2, 3, 3)).astype(np.float32)
    exact = run_as_written(model, values)
    assert np.abs(run_as_written(result, values) - exact).max() < 0.05


def test_weights_that_stay_in_use_in_float32_stay_in_the_file():
    model = _sharing()
    ranges = {"x": Range(1.0), "p": Range(2.0)}
    result = form_of(model, "int8", ranges).build(model, ["q"])
    assert {"w", "w_int8"} <= {tensor.name for tensor in result.graph.initializer}
    onnx.checker.check_model(result, full_check=True)


def test_what_int8_cannot_store_is_named_with_the_reason():
    constants = {"w": np.ones((4, 4), np.float32), "k": np.ones((1, 1, 2, 2), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"], "attention"),
        helper.make_node("Gemm", ["a", "w"], ["b"], "scaled", alpha=0.5),
        helper.make_node("MatMul", ["b", "w"], ["c"], "plain"),
        helper.make_node("Unsqueeze", ["c", "axes"], ["d"], "square"),
        helper.make_node("ConvTranspose", ["d", "k"], ["e"], "larger"),
    ]
    constants["axes"] = np.array([0, 1], np.int64)
    model = small_model(nodes, {"x": [4, 4]}, {"e": [1, 1, 5, 5]}, constants)
    assert [layer.name for layer in int8_layers(model)] == ["plain"]
    assert [str(node) for node in float_nodes(model)] == [
        "'attention' (MatMul: its weights are computed)",
        "'scaled' (Gemm: it scales its product or turns its input)",
        "'larger' (ConvTranspose: no int8 form of this operator)",
    ]


@pytest.mark.parametrize(
    ("shape", "groups"), [((3, 5), 1), ((2, 3, 5), 1), ((3, 5), 2), ((2, 3, 5), 2), ((7, 2, 3, 5), 2)]
)
def test_moments_of_products(shape, groups):
    """E[x xT] per group, by a loop over rows."""
    model = small_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        {"x": list(shape)},
        {"y": [*shape[:-1], 4] if groups == 1 else [*shape[:-3], groups, shape[-2], 4]},
        {"w": np.ones((5, 4) if groups == 1 else (groups, 5, 4), np.float32)},
    )
    (layer,) = int8_layers(model)
    moments = SecondMoments([layer], {"product": (5, 4) if groups == 1 else (groups, 5, 4)}, {})
    values = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    moments.add("x", values)
    whole = values[None] if groups == 1 else np.broadcast_to(values, (*shape[:-3], groups, *shape[-2:]))
    sums = moments.of("product")
    assert sums is not None
    for group, found in enumerate(sums):
        rows = (whole if groups == 1 else whole[..., group, :, :]).reshape(-1, 5)
        np.testing.assert_allclose(found, sum(np.outer(row, row) for row in rows) / len(rows), rtol=1e-5)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    save_crops(folder, 48, persons=8)
    return folder


def _adopted(blocks, folder, crops):
    source = blocks.write(folder / "net.onnx")
    return adopt_network(read_foreign(source), folder / "models", AdoptSettings(CHOICES, crops=crops)).model


def test_the_int8_files_of_an_adopted_network(tmp_path, crops):
    source = _adopted(Blocks(), tmp_path, crops)
    result = calibrate(source, crops, QUICK)
    assert (result.portable.model.name, result.cpu.model.name) == ("net.int8.onnx", "net.cpu.int8.onnx")
    assert result.calibration.layers == 7
    assert result.calibration.unquantised == ()
    goldens = load_goldens(source.with_name("net.goldens.npz"))
    for file in (result.portable, result.cpu):
        assert read_spec(file.model) == read_spec(source).with_precision("int8")
        for runtime in ("onnxruntime", "openvino"):
            with open_engine(file.model, runtime) as engine:
                assert np.sum(engine.run(goldens.images) * goldens.descriptors, axis=1).min() > 0.995


def test_what_stays_in_float32_is_said(tmp_path, crops):
    """The extra product has computed weights, and no parser of TensorRT knows its operator."""
    extra = [
        helper.make_node("ThresholdedRelu", ["pooled"], ["kept"], alpha=0.1),
        helper.make_node("Transpose", ["kept"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["turned", "kept"], ["product"], "square"),
        helper.make_node("ReduceMean", ["product"], ["scale"], axes=[0, 1], keepdims=1),
        helper.make_node("Mul", ["scale", "zero"], ["nothing"]),
        helper.make_node("Add", ["kept", "nothing"], ["row"]),
    ]
    blocks = Blocks(extra)
    blocks._constants.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    source = _adopted(blocks, tmp_path, crops)
    outcome = rrid_edge(
        "calibrate", source, "--images", crops, "--count", 16, "--method", "minmax", "--rounding", "nearest"
    )
    assert outcome.code == 0, outcome.err
    assert "1 layer that int8 cannot store stays in float32: 'network/square' (MatMul: its weights" in outcome.out
    assert "net.int8.onnx: not every version of TensorRT reads this file: node 'network/kept'" in outcome.err
    listing = json.loads(source.with_name("net.calibration.json").read_text())
    assert [node["name"] for node in listing["unquantised"]] == ["network/square"]
    assert made_up(onnx.load(source))


class Uneven(Blocks):
    """A network whose largest layer reads channels of very different ranges, which one scale per tensor cannot hold."""

    def __init__(self):
        super().__init__()
        del self._nodes[:], self._constants[:]
        ranges = 10.0 ** np.arange(-2, 2, 0.5, dtype=np.float32)
        stem = self.step("Relu", self.conv("pixels", 3, 8, 3, strides=[2, 2]))
        self._scale(ranges[:, None, None, None], -2)
        self._scale(ranges, -1)
        large = self.step("Relu", self.conv(stem, 8, 64, 3))
        self._scale(1 / ranges[None, :, None, None], -2)
        last = self.conv(self.step("Relu", self.conv(large, 64, 4, 1)), 4, 16, 1)
        self.step("Flatten", self.step("GlobalAveragePool", last), output="features")

    def _scale(self, factors, place):
        tensor = self._constants[place]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factors, tensor.name))


def test_hard_networks_keep_more_layers_in_float32(tmp_path, crops):
    """The layer that loses most holds nearly all weights: int8 without it is worth little, but agrees."""
    source = _adopted(Uneven(), tmp_path, crops)
    sizes = weight_sizes(read_graph(source))
    result = calibrate(source, crops, QUICK)
    assert max(sizes, key=lambda name: sizes[name]) in result.portable.floating
    assert len(result.portable.floating) < len(sizes)
    assert result.portable.size_share > 0.5
    assert result.portable.parity.agreement.mean_cosine > 0.9997
