"""NVIDIA's own parser and builder (TensorRT for RTX, which builds on a CPU) take networks with float32 planes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from rrid_calib.layers import read_graph
from rrid_edge.machine.rtx import RTX_MODULES
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.rtx_target import RtxTarget
from rrid_edge.model.spec import FLOAT32_NCHW
from rrid_edge.model.weights import contract_file
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.int8 import form_of, made_up

pytestmark = pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in RTX_MODULES), reason="needs the extra gpu-proof (x86-64)"
)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_real_builder_builds_planes(planes_export, tmp_path, precision):
    path = planes_export / "rrid.nchw.onnx"
    if precision == "int8":
        model = read_graph(path)
        content = form_of(model, "int8", made_up(model)).build(model).SerializeToString()
        path = tmp_path / "rrid.nchw.int8.onnx"
        spec = read_spec(planes_export / "rrid.nchw.onnx").with_precision("int8")
        path.write_bytes(contract_file(content, spec))
    engine = tmp_path / f"rrid.nchw.{precision}.rtx"
    sidecar = build_engine(path, engine, BuildSettings(rtx=RtxTarget()))
    assert EngineSidecar.read(engine).spec == read_spec(path)
    assert sidecar.spec.input == FLOAT32_NCHW
    assert sidecar.to_json()["input"] == {"name": "images", "dtype": "float32", "shape": ["batch", 3, 96, 32]}
    assert engine.stat().st_size > np.prod([256, 256, 9])
