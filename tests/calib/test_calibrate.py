"""Calibration: ranges compared with computed ones, explicit int8 for all runtimes, crops of the training split only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional as F

from rrid_calib.calibrate import calibrate
from rrid_calib.crops import find_crops, read_crops, sample_crops
from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers, read_graph, weight_sizes
from rrid_calib.ranges import METHODS, Histogram, Range, collect, descriptors_of, ranges_of
from rrid_calib.settings import CalibrationSettings
from rrid_calib.weights import quantised_weights
from rrid_edge.engines import open_engine
from rrid_edge.errors import ArtefactError, CheckFailedError, DatasetError, ModelFileError, UsageError
from rrid_edge.machine.processor import cpu_flags
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity import verdict as parity
from rrid_edge.parity.agreement import row_cosines
from support.commands import refused, rrid_edge
from support.datasets import write_dataset
from support.int8 import form_of, measured, tensors_of
from support.networks import narrow_source
from support.onnx_models import save_changed_model, save_tiny_model
from support.pictures import noise, save_crops

SETTINGS = CalibrationSettings(count=16, measured=8, method="minmax", rounding="nearest", float_layers=0)


@pytest.fixture(scope="module")
def exported(narrow_export):
    return narrow_export / "rrid.onnx"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", train=8, test=3, cameras=3, shots=2)


@pytest.fixture(scope="module")
def smallest_dataset(tmp_path_factory):
    """As few training crops as calibration takes: 8 for the ranges, 8 to measure on."""
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", train=4, test=3, cameras=2, shots=2)


@pytest.fixture
def model_path(exported, tmp_path):
    return shutil.copy(exported, tmp_path / "rrid.onnx")


@pytest.fixture
def lenient(monkeypatch):
    """Loose tolerances: with random weights the nearest neighbour is chance, and only cosines show if int8 works."""
    loose = dataclasses.replace(
        parity.TOLERANCES["int8"], min_cosine=0.99, mean_cosine=0.99, changed=0.999, max_map_loss=1.0
    )
    monkeypatch.setitem(parity.TOLERANCES, "int8", loose)


def _pixels(count: int) -> np.ndarray:
    return np.stack([np.asarray(noise(seed, 96, 32)) for seed in range(count)])


def _histogram(*parts) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


# Ranges


def test_minmax_limit_is_the_largest_magnitude():
    assert _histogram([[-3.5, 1.0]], [0.25]).clip_limit("minmax") == 3.5


def test_percentile_clips_the_tail():
    values = np.arange(1, 100_001, dtype=np.float32) / 100_000
    # The 99.99th percentile of 0.00001 .. 1 is 0.9999; one bin of 2048 is 0.0005 wide.
    assert _histogram(values).clip_limit("percentile") == pytest.approx(0.9999, abs=0.0005)
    outlier = _histogram(values, [10.0])
    assert outlier.clip_limit("minmax") == 10.0
    assert outlier.clip_limit("percentile") == pytest.approx(1.0, abs=10 / 1024)


def test_entropy_clips_an_outlier_but_not_a_uniform_distribution():
    generator = np.random.default_rng(0)
    bell = np.abs(generator.normal(0, 1, 200_000))
    assert 2.5 < _histogram(bell, [40.0]).clip_limit("entropy") < 10
    even = generator.uniform(0, 1, 200_000)
    assert _histogram(even).clip_limit("entropy") > 0.95


def test_histogram_of_growing_blocks_equals_the_histogram_of_all():
    generator = np.random.default_rng(1)
    blocks = [generator.uniform(0, 4.0**power, 5000).astype(np.float32) for power in range(4)]
    one = _histogram(*blocks)
    assert one.counts.sum() == 20_000
    magnitudes = np.concatenate(blocks)
    expected = np.histogram(magnitudes, len(one.counts), (0, one.limit))[0]
    # Doubling the limit joins two bins into one: a value on a border may lie on its other side, by rounding.
    assert np.abs(np.cumsum(one.counts) - np.cumsum(expected)).max() <= 2
    assert one.limit >= one.largest == magnitudes.max()


@pytest.mark.parametrize("method", METHODS)
def test_activations_of_zeros_have_a_positive_range(method):
    assert _histogram(np.zeros(100)).clip_limit(method) > 0


def test_ranges_do_not_depend_on_the_calibration_batch(exported):
    model = read_graph(exported)
    tensors = tensors_of(model)
    alone, together = (ranges_of(collect(model, tensors, _pixels(6), batch=batch), "minmax") for batch in (1, 6))
    assert alone.keys() == together.keys() == set(tensors)
    for name in tensors:
        assert alone[name].limit == pytest.approx(together[name].limit, rel=1e-5)
        assert alone[name].unsigned == together[name].unsigned


def test_a_model_without_layers_for_int8_is_refused(smallest_dataset, tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    refused(rrid_edge("calibrate", model, "--images", smallest_dataset), 4, "rrid.onnx", "no convolution")


def test_activations_that_are_not_finite_are_refused(exported):
    model = read_graph(exported)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == int8_layers(model)[0].weight)
    weight.CopyFrom(numpy_helper.from_array(np.full(weight.dims, np.inf, np.float32), weight.name))
    tensors = [layer.source for layer in int8_layers(model)]
    with pytest.raises(ModelFileError, match="is not finite"):
        collect(model, tensors, _pixels(1))


# The graph


def test_quantised_weights_equal_hand_computed_ones():
    values, steps = quantised_weights(np.array([[[[1.27]], [[-0.635]]], [[[0.0]], [[0.0]]]], np.float32))
    assert values.ravel().tolist() == [127, -64, 0, 0]  # -63.5 rounds to the even neighbour
    assert steps[0] == pytest.approx(0.01)
    assert steps[1] > 0  # a channel of zeros still has a step


@pytest.fixture(scope="module")
def int8_model(exported):
    model = read_graph(exported)
    return form_of(model, "int8", measured(model, _pixels(12))).build(model)


def test_int8_graph_has_the_form_that_runtimes_need(int8_model):
    """Symmetric, zero point 0, positive scales per channel for weights only, no int8 on biases, pixels or the norm."""
    onnx.checker.check_model(int8_model, full_check=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8_model.graph.initializer}
    nodes = list(int8_model.graph.node)
    makers = {name: node for node in nodes for name in node.output}
    pairs = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        _, step, zero = node.input
        assert (constants[step] > 0).all()
        assert constants[zero].dtype == np.int8
        assert not constants[zero].any()
        is_weight = node.input[0] in constants
        assert constants[step].ndim == (constants[node.input[0]].ndim == 4 if is_weight else 0)
        assert node.op_type == "DequantizeLinear" or not is_weight  # weights are stored as int8
    products = [node for node in nodes if node.op_type in ("Conv", "MatMul")]
    assert len(products) == 20 + 3
    pooled = 0
    for node in products:
        fed, weights = (makers[name] for name in node.input[:2])
        if fed.op_type == "MaxPool":  # of int8 values
            pooled += 1
            fed = makers[fed.input[0]]
        assert fed.op_type == weights.op_type == "DequantizeLinear"
        assert node.input[2] in constants if len(node.input) > 2 else True
    assert pooled == 1
    # Only the residual of a residual add is quantised, so convolution, add and ReLU can become one kernel.
    adders = [node for node in nodes if node.op_type == "Add" and not constants.keys() & set(node.input)]
    residual = [[makers[name].op_type for name in node.input] for node in adders if "Conv" in _makers_of(node, makers)]
    assert len(residual) == 8
    # The first block's residual is the pooled tensor, whose values are int8 too.
    assert sorted(map(sorted, residual)) == [["Conv", "DequantizeLinear"]] * 7 + [["Conv", "MaxPool"]]
    # Nothing is int8 after the last product.
    after = {node.op_type for node in _after(nodes, {products[-1].output[0]})}
    assert "Sqrt" in after
    assert "QuantizeLinear" not in after


def _makers_of(node, makers) -> set[str]:
    return {makers[name].op_type for name in node.input if name in makers}


def _after(nodes, tensors: set[str]) -> list[onnx.NodeProto]:
    found, known = [], set(tensors)
    for node in nodes:
        if known & set(node.input):
            known.update(node.output)
            found.append(node)
    return found


def test_int8_is_close_and_layers_can_stay_in_float32(exported, int8_model):
    pixels = _pixels(12)
    model = read_graph(exported)
    expected = descriptors_of(model, pixels)
    assert row_cosines(descriptors_of(int8_model, pixels), expected).min() > 0.99
    nothing = form_of(model, "int8", measured(model, pixels)).build(model, {layer.name for layer in int8_layers(model)})
    assert "QuantizeLinear" not in {node.op_type for node in nothing.graph.node}
    np.testing.assert_allclose(descriptors_of(nothing, pixels), expected, atol=1e-6)


def test_a_second_step_removes_nearly_all_error_of_the_input(exported):
    """One convolution with int8 weights, its input rounded to 8 bits and to 8 + 8 bits."""
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    values = np.abs(generator.standard_normal((1, 3, 9, 9))).astype(np.float32)
    graph = onnx.helper.make_graph(
        [make("Relu", ["x"], ["r"], "relu"), make("Conv", ["r", "w"], ["y"], "conv")],
        "one",
        [info("x", onnx.TensorProto.FLOAT, [1, 3, 9, 9])],
        [info("y", onnx.TensorProto.FLOAT, [1, 4, 7, 7])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    stored, steps = quantised_weights(weight)
    rounded = stored * steps[:, None, None, None]
    expected = F.conv2d(torch.from_numpy(values), torch.from_numpy(rounded)).numpy()
    errors = []
    for fine in ((), ("conv",)):
        result = Form("int8", {"r": Range(float(values.max()))}, two_step_layers=fine, signed=True).build(model)
        onnx.checker.check_model(result, full_check=True)
        session = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
        errors.append(np.abs(session.run(None, {"x": values})[0] - expected).max())
    assert 0 < errors[1] < errors[0] / 100


def test_residuals_can_stay_in_float32(exported):
    model = read_graph(exported)
    result = form_of(model, "float residuals", measured(model, _pixels(4))).build(model)
    makers = {name: node for node in result.graph.node for name in node.output}
    constants = {tensor.name for tensor in result.graph.initializer}
    adders = [node for node in result.graph.node if node.op_type == "Add" and not constants & set(node.input)]
    residual = [node for node in adders if "Conv" in _makers_of(node, makers)]
    assert len(residual) == 8
    assert not any("DequantizeLinear" in _makers_of(node, makers) for node in residual)


def test_more_accurate_forms_are_tried_only_if_targets_are_missed(lenient, model_path, dataset, monkeypatch):
    easy = dataclasses.replace(SETTINGS, float_layers=None)
    monkeypatch.setattr("rrid_calib.forms.TOP1_TARGET", 0.0)
    monkeypatch.setattr("rrid_calib.forms.MEAN_TARGET", 0.9)
    assert calibrate(model_path, dataset, easy).calibration.form == "int8"
    monkeypatch.setattr("rrid_calib.forms.MEAN_TARGET", 0.99999999)
    monkeypatch.setattr("rrid_calib.forms.LARGEST_SHARE", 0.0)
    chosen = calibrate(model_path, dataset, easy).calibration
    assert (chosen.form, chosen.floating) == (chosen.cpu_form, chosen.cpu_floating) == ("float residuals", ())


def test_weight_sizes_count_the_weights_of_layers(exported):
    sizes = weight_sizes(read_graph(exported))
    shapes = [tuple(tensor.dims) for tensor in read_graph(exported).graph.initializer]
    weights = [shape for shape in shapes if len(shape) == 4 or (len(shape) == 3 and min(shape) > 1)]
    assert len(weights) == 20 + 3
    assert sum(sizes.values()) == sum(np.prod(shape) for shape in weights)
    assert max(sizes.values()) == 256 * 256 * 9


# Crops


def test_a_dataset_gives_its_training_split(dataset):
    crops = find_crops(dataset)
    assert {crop.person for crop in crops} == {str(person) for person in range(8)}
    assert len(crops) == 8 * 3 * 2


def test_sampled_crops_are_spread_evenly_and_seeded(dataset):
    crops = find_crops(dataset)
    chosen = sample_crops(crops, 24, seed=3)
    assert chosen == sample_crops(list(crops), 24, seed=3) != sample_crops(crops, 24, seed=4)
    assert [sum(crop.camera == str(camera) for crop in chosen) for camera in range(3)] == [8, 8, 8]
    # Eight people a camera: everyone once.
    assert all(len({crop.person for crop in chosen if crop.camera == str(camera)}) == 8 for camera in range(3))
    assert len(sample_crops(crops, 1000, seed=3)) == len(crops)


def test_a_folder_without_dataset_gives_all_its_crops(tmp_path):
    save_crops(tmp_path / "crops", 6)
    assert {(crop.person, crop.camera) for crop in find_crops(tmp_path / "crops")} >= {("0001", "1"), ("0002", "2")}


@pytest.mark.parametrize("name", ["query", "gallery", "test", "bounding_box_test"])
def test_crops_in_test_folders_are_refused(tmp_path, name):
    save_crops(tmp_path / "all" / name, 2)
    save_crops(tmp_path / "all" / "train", 2)
    for folder in (tmp_path / "all", tmp_path / "all" / name):
        with pytest.raises(UsageError, match=r"crops belong to a test split.*training crops only"):
            find_crops(folder)


def test_crops_in_the_datasets_test_lists_are_refused(dataset):
    with pytest.raises(UsageError, match=r"18 of 66 crops belong to a test split, the first is 00000008_00_0000.jpg"):
        find_crops(dataset / "images")


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        find_crops(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no images"):
        find_crops(tmp_path)


def test_a_dataset_that_contradicts_itself_is_refused(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "broken")
    (tmp_path / "broken" / "splits.json").write_text('[{"trainval": [0, 1, 99999]}]')
    with pytest.raises(DatasetError, match="person 99999 is not in"):
        find_crops(tmp_path / "broken")
    (tmp_path / "broken" / "splits.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"splits.json: damaged list of splits"):
        find_crops(tmp_path / "broken")


def test_crops_are_read_with_pixels_and_sha256(dataset):
    crops = find_crops(dataset)[:2]
    images = read_crops(crops, 96, 32)
    assert images.pixels.shape == (2, 96, 32, 3)
    assert images.sha256[1] == hashlib.sha256(crops[1].path.read_bytes()).hexdigest()


# The whole calibration


def test_calibrate_command_writes_model_listing_and_report(lenient, model_path, dataset, monkeypatch):
    monkeypatch.setattr("rrid_calib.forms.LARGEST_SHARE", 0.0)  # no single layers
    options = ("--count", 24, "--rounding", "nearest", "--json")
    outcome = rrid_edge("calibrate", model_path, "--images", dataset, *options)
    assert outcome.code == 0, outcome
    facts = json.loads(outcome.out)
    path = model_path.with_name("rrid.int8.onnx")
    assert facts["model"] == str(path)
    assert facts["size_share"] == path.stat().st_size / model_path.stat().st_size <= 0.31
    assert {item["method"] for item in facts["compared"]} == set(METHODS)
    in_form = [item for item in facts["compared"] if item["form"] == facts["form"] and item["signed"]]
    assert facts["method"] == max(in_form, key=lambda item: item["mean_cosine"])["method"]
    spec = read_spec(path)
    assert (spec.precision, spec.fingerprint) == ("int8", read_spec(model_path).fingerprint)
    listing = json.loads(model_path.with_name("rrid.calibration.json").read_text())
    assert len(listing["crops"]) == facts["crops"] == 24
    for crop in listing["crops"]:
        content = (dataset / crop["name"]).read_bytes()
        assert crop["sha256"] == hashlib.sha256(content).hexdigest()
        assert int(crop["person"]) < 8  # of the training split
    written = json.loads(model_path.with_name("rrid.int8.onnx.parity.json").read_text())
    assert written["arithmetic"] == "int8"
    assert written["sample"] == listing["check"] == facts["check"]
    assert (written["sample"]["crops"], written["sample"]["people"], written["sample"]["queries"]) == (24, 4, 24)
    cpu = model_path.with_name("rrid.cpu.int8.onnx")
    assert facts["cpu"]["model"] == str(cpu)
    assert json.loads(model_path.with_name("rrid.cpu.int8.onnx.parity.json").read_text())["arithmetic"] == "int8"
    assert read_spec(cpu) == spec
    assert not model_path.with_name("rrid.cpu.calibration.json").exists()
    for line in (path, cpu):
        _check_runtimes(line, model_path)


def _check_runtimes(path, model_path):
    """Compare an int8 file in both runtimes with each other, and with the float32 file."""
    pixels = _pixels(9)
    with open_engine(path, "onnxruntime") as one, open_engine(path, "openvino") as two:
        assert {one.arithmetic, two.arithmetic} == {"int8"}
        answers, others = one.run(pixels), two.run(pixels)
    # Without VNNI, OpenVINO adds pairs of int8 products in 16 bits, which saturate.
    vnni = {"avx512_vnni", "avx_vnni"} & cpu_flags()
    assert row_cosines(answers, others).min() > (0.999 if vnni else 0.99)
    with open_engine(model_path, "onnxruntime") as full:
        assert row_cosines(answers, full.run(pixels)).min() > 0.99


def test_the_same_seed_gives_the_same_model(lenient, model_path, dataset, tmp_path):
    one = calibrate(model_path, dataset, SETTINGS, output=tmp_path / "one.onnx").portable.model.read_bytes()
    assert calibrate(model_path, dataset, SETTINGS, output=tmp_path / "two.onnx").portable.model.read_bytes() == one
    other = dataclasses.replace(SETTINGS, seed=1)
    assert calibrate(model_path, dataset, other, output=tmp_path / "three.onnx").portable.model.read_bytes() != one


def test_costliest_layers_are_left_in_float32(lenient, model_path, dataset):
    settings = dataclasses.replace(SETTINGS, float_layers=3)
    chosen = calibrate(model_path, dataset, settings).calibration
    assert len(chosen.floating) == 3
    assert set(chosen.floating) == set(sorted(chosen.layer_costs, key=lambda name: chosen.layer_costs[name])[-3:])
    nodes = onnx.load(model_path.with_name("rrid.int8.onnx")).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type in ("Conv", "MatMul"):
            assert (makers.get(node.input[1]) == "DequantizeLinear") == (node.name not in chosen.floating)


def test_layers_left_in_float32_never_make_the_file_large(lenient, monkeypatch, model_path, dataset):
    settings = dataclasses.replace(
        SETTINGS, float_layers=None, target=0.9999999
    )  # out of reach: as many as fit are tried
    result = calibrate(model_path, dataset, settings)
    assert result.calibration.floating
    assert result.portable.model.stat().st_size < 0.31 * model_path.stat().st_size


def test_a_model_that_fails_parity_is_not_written(monkeypatch, model_path, dataset):
    strict = dataclasses.replace(parity.TOLERANCES["int8"], min_cosine=0.9999999)
    monkeypatch.setitem(parity.TOLERANCES, "int8", strict)
    with pytest.raises(CheckFailedError, match=r"int8 model differs from onnxruntime CPU fp32: .*nothing was written"):
        calibrate(model_path, dataset, SETTINGS)
    assert [path.name for path in model_path.parent.iterdir()] == ["rrid.onnx"]


def test_export_calibrates_and_compares_with_pytorch(lenient, exported, smallest_dataset, tmp_path, monkeypatch):
    (tmp_path / "narrow.pth").touch()
    monkeypatch.setattr("rrid_export.source.load_source", lambda _path, **_size: narrow_source())
    monkeypatch.setattr(
        "rrid_export.onnx.trace_branch", lambda _branch: onnx.load(exported)
    )  # traced from this network
    monkeypatch.setattr("rrid_calib.forms.TOP1_TARGET", 0.0)
    monkeypatch.setattr("rrid_calib.forms.MEAN_TARGET", 0.9)  # the first form will do
    arguments = ["export", tmp_path / "narrow.pth", "-o", tmp_path / "m", "--int8", "--calib", smallest_dataset]
    outcome = rrid_edge(*arguments)
    assert outcome.code == 0, outcome
    assert "parity with torch cpu fp32" in outcome.out
    assert "no TensorRT engine was built" in outcome.err
    assert all((tmp_path / "m" / name).is_file() for name in ("rrid.int8.onnx", "rrid.cpu.int8.onnx"))


@pytest.mark.parametrize(
    "settings",
    [{"count": 3}, {"measured": 0}, {"method": "best"}, {"rounding": "up"}, {"target": 1.5}, {"float_layers": -1}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=r"expected"):
        CalibrationSettings(**settings)


def test_commands_refuse_wrong_options_and_files(model_path, tiny_export, dataset, tmp_path):
    checkpoint = tiny_export / "tiny.pth"
    refused(rrid_edge("export", checkpoint, "--int8"), 2, "--int8 and --calib DIR go together")
    refused(rrid_edge("export", checkpoint, "--calib", dataset), 2, "--int8 and --calib DIR go together")
    refused(rrid_edge("export", model_path, "--int8", "--calib", dataset), 2, "rrid-edge calibrate MODEL --images DIR")
    refused(rrid_edge("calibrate", checkpoint, "--images", dataset), 4, "tiny.pth", "ONNX")
    refused(rrid_edge("calibrate", tmp_path / "none.onnx", "--images", dataset), 2, "none.onnx")
    save_crops(tmp_path / "few", 9)
    refused(rrid_edge("calibrate", model_path, "--images", tmp_path / "few"), 2, "9 training crops are too few")


def test_an_int8_model_is_not_calibrated_again(lenient, model_path, dataset):
    done = calibrate(model_path, dataset, SETTINGS).portable.model
    refused(rrid_edge("calibrate", done, "--images", dataset), 2, "precision int8", "calibrate the float32 file")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_missing_scale_is_named_in_one_line(lenient, model_path, tiny_export, dataset, tmp_path, runtime):
    path = calibrate(model_path, dataset, SETTINGS).portable.model
    model = onnx.load(path)
    step = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("_scale"))
    model.graph.initializer.remove(step)
    save_changed_model(path, model, read_spec(path))
    save_crops(tmp_path / "crops", 4)
    options = ("--reference", tiny_export / "tiny.pth", "--images", tmp_path / "crops", "--runtime", runtime)
    outcome = rrid_edge("parity", path, *options)
    refused(outcome, 4, "rrid.int8.onnx", f"{step.name}", "again with: rrid-edge")


def test_models_of_one_folder_keep_their_own_listings_and_reports(lenient, model_path, dataset, tmp_path):
    for name in ("person.v2", "person.v3"):
        source = shutil.copyfile(model_path, tmp_path / f"{name}.onnx")
        result = calibrate(source, dataset, SETTINGS)
        assert result.portable.model == tmp_path / f"{name}.int8.onnx"
        assert result.cpu.model == tmp_path / f"{name}.cpu.int8.onnx"
        assert result.listing == tmp_path / f"{name}.calibration.json"
        assert result.portable.report == tmp_path / f"{name}.int8.onnx.parity.json"
