"""Configurations for Triton and DeepStream of adopted networks, and the form that takes float32 planes."""

from __future__ import annotations

import configparser
import json

import numpy as np
import pytest
import yaml

from rrid_edge.engines import open_engine
from rrid_edge.model.onnx_header import read_spec
from rrid_export.mistakes import mistaken_networks
from rrid_export.triton import write_triton_repository
from support.commands import refused, rrid_edge
from support.foreign import HEIGHT_PX, VALUES, WIDTH_PX, ForeignFile

TAO = ("--color", "bgr", "--scale", "1", "--mean", "123.675,116.28,103.53", "--std", "57.6,57.1,57.3", "--flip")


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    source = ForeignFile().write(folder / "net.onnx")
    outcome = rrid_edge("adopt", source, "-o", folder / "models", *TAO)
    assert outcome.code == 0, outcome.err
    return folder / "models" / "net.onnx"


def test_triton_serves_it_under_its_own_name(adopted, tmp_path):
    folder = write_triton_repository(adopted, tmp_path)
    assert folder == tmp_path / "net"
    text = (folder / "config.pbtxt").read_text()
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    config = text_format.Parse(text, messages.ModelConfig())
    (images,), (descriptors,) = config.input, config.output
    assert (config.name, images.name, list(images.dims)) == ("net", "images", [HEIGHT_PX, WIDTH_PX, 3])
    assert list(descriptors.dims) == [VALUES]
    assert config.parameters["rrid.fingerprint"].string_value == read_spec(adopted).fingerprint


def test_a_name_that_triton_cannot_have_is_refused(adopted, tmp_path):
    odd = adopted.parent / "a b.onnx"
    outcome = rrid_edge("adopt", adopted.parent.parent / "net.onnx", "-o", adopted.parent, "--name", "a b", *TAO)
    assert outcome.code == 0, outcome.err
    refused(rrid_edge("export", odd, "--triton", tmp_path), 2, "Triton model name 'a b' is invalid")


@pytest.fixture(scope="module")
def planes(adopted):
    folder = adopted.parents[1] / "deepstream"
    outcome = rrid_edge("export", adopted, "--input", "nchw-float", "--deepstream", folder, "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert facts["model_planes"] == str(adopted.parent / "net.nchw.onnx")
    assert sorted(facts["deepstream"]) == sorted(map(str, folder.iterdir()))
    return adopted.parent / "net.nchw.onnx"


def test_the_form_with_planes_is_the_same_network(adopted, planes):
    one, two = read_spec(adopted), read_spec(planes)
    assert two == one.with_input("float32-nchw")
    images = np.random.default_rng(0).integers(0, 256, (5, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    for runtime, precision in (("onnxruntime", None), ("openvino", "fp32")):
        with open_engine(adopted, runtime, precision=precision) as first:
            expected = first.run(images)
        with open_engine(planes, runtime, precision=precision) as second:
            assert np.abs(second.run(images) - expected).max() < 1e-6
    assert rrid_edge("parity", planes, "--runtime", "onnxruntime").code == 0
    plain, changed = mistaken_networks(adopted), mistaken_networks(planes)
    assert set(plain) == set(changed)
    for name in plain:
        assert np.abs(plain[name](images) - changed[name](images)).max() < 1e-5


def test_deepstream_neither_scales_nor_shifts_its_pixels(planes):
    folder = planes.parents[1] / "deepstream"
    block = yaml.safe_load((folder / "net.nchw.onnx.tracker_reid.yml").read_text())["ReID"]
    assert (block["netScaleFactor"], block["offsets"], block["colorFormat"]) == (1.0, [0.0, 0.0, 0.0], 0)
    assert (block["inferDims"], block["reidFeatureSize"]) == ([3, HEIGHT_PX, WIDTH_PX], VALUES)
    assert (block["addFeatureNormalization"], block["inputOrder"]) == (0, 0)
    parser = configparser.ConfigParser()
    parser.read(folder / "net.nchw.onnx.nvinfer.txt")
    properties = parser["property"]
    assert (properties["net-scale-factor"], properties["offsets"]) == ("1.0", "0.0;0.0;0.0")
    assert (properties["infer-dims"], properties["model-color-format"]) == (f"3;{HEIGHT_PX};{WIDTH_PX}", "0")
    assert properties["onnx-file"] == str(planes)


def test_what_has_no_form_with_planes_is_refused(adopted, planes, tmp_path):
    refused(rrid_edge("export", adopted, "--deepstream", tmp_path), 2, "takes uint8: add --input nchw-float")
    outcome = rrid_edge("export", planes, "--input", "nchw-float")
    refused(outcome, 2, "--input nchw-float: the network is in the ONNX file already")
    outcome = rrid_edge("export", adopted, "--input", "nchw-float", "--print-trtexec")
    refused(outcome, 2, "make the converted file first, then give that file without --input")


def test_the_float16_form_takes_planes_too(adopted, tmp_path):
    options = ("--fp16", "--input", "nchw-float", "--deepstream", tmp_path / "ds", "-o", tmp_path, "--json")
    outcome = rrid_edge("export", adopted, *options)
    assert outcome.code == 0, outcome.err
    spec = read_spec(tmp_path / "net.nchw.fp16.onnx")
    assert (spec.precision, spec.input, spec.fingerprint) == ("fp16", "float32-nchw", read_spec(adopted).fingerprint)
    assert sorted(path.name.split(".onnx")[0] for path in (tmp_path / "ds").iterdir()) == ["net.nchw.fp16"] * 2
    assert (tmp_path / "net.goldens.npz").is_file()
