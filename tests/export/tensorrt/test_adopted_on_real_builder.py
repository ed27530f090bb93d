"""Adopted networks in every precision: NVIDIA's own builder (TensorRT for RTX, on a CPU), ONNX Runtime and OpenVINO."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest

from rrid_calib.layers import read_graph
from rrid_edge.engines import open_engine
from rrid_edge.errors import UsageError
from rrid_edge.machine.rtx import RTX_MODULES
from rrid_edge.model.engine_sidecar import EngineSidecar, Products
from rrid_edge.model.names import cpu_onnx_path, onnx_beside
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.operator_rules import operator_remark
from rrid_edge.model.rtx_target import RtxTarget
from rrid_edge.parity.goldens import load_goldens
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import read_foreign
from rrid_export.adopt.pipeline import AdoptSettings, adopt_network
from rrid_export.half.pipeline import write_half
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from rrid_export.trtexec import trtexec_command
from support.commands import rrid_edge
from support.foreign_blocks import Blocks, ResNet18
from support.int8 import form_of, measured
from support.pictures import save_crops
from support.real_networks import write_model

CHOICES = Choices(color="bgr", scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), flip=True)
LEAST_COSINE = {"fp32": 1 - 1e-6, "fp16": 0.9999, "int8": 0.99}
PRODUCTS = {"resnet18": 20, "blocks": 7}


@pytest.fixture(scope="module", params=["resnet18", "blocks"])
def files(request, tmp_path_factory):
    """Return a network's files by precision: adopted, converted to float16, and with calibrated ranges in int8."""
    folder = tmp_path_factory.mktemp(request.param)
    save_crops(folder / "crops", 12)
    network = ResNet18() if request.param == "resnet18" else Blocks()
    original = read_foreign(network.write(folder / "net.onnx"))
    settings = AdoptSettings(CHOICES, name=request.param, crops=folder / "crops")
    fp32 = adopt_network(original, folder / "models", settings).model
    fp16 = write_half(fp32).model
    model = read_graph(fp32)
    images = load_goldens(fp32.with_name(f"{request.param}.goldens.npz")).images
    ranges, spec = measured(model, images), read_spec(fp32).with_precision("int8")
    paths = {True: onnx_beside(fp32, "int8"), False: cpu_onnx_path(onnx_beside(fp32, "int8"))}
    for signed, path in paths.items():
        write_model(path, form_of(model, "fine head", ranges, signed=signed).build(model), spec)
    return {"fp32": fp32, "fp16": fp16, "int8": paths[True], "for CPUs": paths[False]}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_files_agree_with_the_goldens(files, precision):
    goldens = load_goldens(files["fp32"].with_name(f"{files['fp32'].stem}.goldens.npz"))
    for runtime, arithmetic in (("onnxruntime", None), ("openvino", "fp32")):
        # Without VNNI, OpenVINO adds pairs of int8 products in 16 bits, which saturate: the file for CPUs loses less.
        name = "for CPUs" if (precision, runtime) == ("int8", "openvino") else precision
        with open_engine(files[name], runtime, precision=arithmetic) as engine:
            cosines = np.sum(engine.run(goldens.images) * goldens.descriptors, axis=1)
        assert cosines.min() > LEAST_COSINE[precision], runtime


@pytest.mark.skipif(not any(importlib.util.find_spec(name) for name in RTX_MODULES), reason="needs the extra gpu-proof")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_real_builder_builds_them(files, precision, tmp_path):
    engine = tmp_path / f"net.{precision}.rtx"
    sidecar = build_engine(files[precision], engine, BuildSettings(rtx=RtxTarget()))
    assert EngineSidecar.read(engine).spec == read_spec(files[precision])
    kinds = dict.fromkeys(("half", "int8", "single", "other"), 0)
    kinds[{"fp32": "single", "fp16": "half", "int8": "int8"}[precision]] = PRODUCTS[files["fp32"].stem]
    assert sidecar.proof.products == Products(**kinds)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_all_parsers_of_tensorrt_read_them(files, precision):
    assert operator_remark(files[precision]) == ""
    onnx.checker.check_model(str(files[precision]), full_check=True)
    command = trtexec_command(files[precision], files[precision].with_suffix(".engine"), version="10")
    assert f"--onnx={files[precision]}" in command.arguments


def test_an_operator_that_tensorrt_may_not_read_is_a_remark(tmp_path):
    """Adopting and converting such a network work; its engine would not."""
    extra = [onnx.helper.make_node("ThresholdedRelu", ["pooled"], ["row"], alpha=0.1)]
    source = Blocks(extra).write(tmp_path / "net.onnx")
    outcome = rrid_edge("adopt", source, "-o", tmp_path / "out", "--preset", "torchreid")
    assert outcome.code == 0, outcome.err
    assert "net.onnx: not every version of TensorRT reads this file: node 'network/row'" in outcome.err
    with pytest.raises(UsageError, match="precision"):
        write_half(write_half(tmp_path / "out" / "net.onnx").model)
