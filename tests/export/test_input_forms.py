"""The network exported with float32 planes as input: the same descriptors, names beside the uint8 form, calibration."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rrid_calib.graph import Form
from rrid_calib.layers import read_graph
from rrid_calib.ranges import descriptors_of
from rrid_edge.engines import open_engine
from rrid_edge.errors import UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import FLOAT32_NCHW
from rrid_edge.parity.agreement import row_cosines
from rrid_export import mistakes
from rrid_export.pipeline import ExportSettings
from support.commands import refused, rrid_edge
from support.int8 import measured, tensors_of
from support.networks import TINY


def _images(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, TINY.height_px, TINY.width_px, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_planes_give_the_descriptors_of_the_uint8_file(planes_export, narrow_export):
    images = _images(5)
    for runtime in ("onnxruntime", "openvino"):
        precision = "fp32" if runtime == "openvino" else None
        with (
            open_engine(narrow_export / "rrid.onnx", runtime, precision=precision) as one,
            open_engine(planes_export / "rrid.nchw.onnx", runtime, precision=precision) as two,
        ):
            np.testing.assert_allclose(two.run(images), one.run(images), atol=1e-6)


def test_the_file_names_its_form_and_keeps_the_fingerprint(planes_export, narrow_export):
    path = planes_export / "rrid.nchw.onnx"
    assert read_spec(path) == read_spec(narrow_export / "rrid.onnx").with_input(FLOAT32_NCHW)
    assert {path.name for path in planes_export.iterdir()} == {
        "rrid.nchw.onnx",
        "rrid.goldens.npz",
        "rrid.nchw.onnx.parity.json",
        "rrid.nchw.onnx.parity.png",
    }
    assert json.loads((planes_export / "rrid.nchw.onnx.parity.json").read_text())["passed"]
    (value,) = onnx.load(path).graph.input
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    axes = value.type.tensor_type.shape.dim
    assert axes[0].dim_param
    assert [axis.dim_value for axis in axes[1:]] == [3, TINY.height_px, TINY.width_px]


def test_parity_covers_planes(planes_export, tmp_path):
    outcome = rrid_edge("parity", planes_export / "rrid.nchw.onnx", "--output", tmp_path / "report.json")
    assert outcome.code == 0, outcome


def test_int8_is_calibrated_with_planes(planes_export, narrow_export):
    images, limits, descriptors = _images(2), [], []
    for path in (narrow_export / "rrid.onnx", planes_export / "rrid.nchw.onnx"):
        model = read_graph(path)
        found = measured(model, images)
        limits.append([found[tensor].limit for tensor in tensors_of(model)])
        descriptors.append(descriptors_of(Form("int8", found).build(model), images))
    assert limits[1] == pytest.approx(limits[0], rel=1e-6)
    assert row_cosines(*descriptors).min() > 0.999999


def test_mistakes_of_scaling_are_those_of_the_uint8_form(planes_export, narrow_export):
    images = _images(2)
    one, two = (
        mistakes.mistaken_networks(path)["other-normalisation"](images)
        for path in (narrow_export / "rrid.onnx", planes_export / "rrid.nchw.onnx")
    )
    np.testing.assert_allclose(two, one, atol=1e-6)
    with open_engine(narrow_export / "rrid.onnx", "onnxruntime") as engine:
        assert np.abs(engine.run(images) - one).max() > 1e-3


def test_other_forms_are_refused(tmp_path):
    with pytest.raises(UsageError, match="input 'bgr' is unknown: expected one of uint8-nhwc, float32-nchw") as caught:
        ExportSettings(form="bgr")
    assert caught.value.parameters == ("form",)
    (tmp_path / "x.pth").write_bytes(b"")
    (tmp_path / "rrid.onnx").write_bytes(b"")
    refused(rrid_edge("export", tmp_path / "x.pth", "--input", "bgr"), 2, "--input bgr is unknown", "nchw-float")
    outcome = rrid_edge("export", tmp_path / "rrid.onnx", "--input", "nchw-float")
    refused(outcome, 2, "--input nchw-float: the network is in the ONNX file already: give this with a checkpoint")


def test_the_command_hands_the_form_to_the_pipeline(tmp_path, monkeypatch):
    seen = []

    def stop(_source, _output, settings):
        seen.append(settings.form)
        raise UsageError("far enough")

    monkeypatch.setattr("rrid_export.pipeline.export_network", stop)
    monkeypatch.setattr(
        "rrid_edge.cli.export.load_network", lambda _given: SimpleNamespace(describe=lambda: "a network")
    )
    (tmp_path / "best.pth").write_bytes(b"")
    refused(rrid_edge("export", tmp_path / "best.pth", "--input", "nchw-float"), 2, "far enough")
    refused(rrid_edge("export", tmp_path / "best.pth"), 2, "far enough")
    assert seen == ["float32-nchw", "uint8-nhwc"]
