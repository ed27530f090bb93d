"""TensorRT for RTX: import names, API generation, sidecar, and where an engine for it is chosen."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.opening import choose_runtime
from rrid_edge.engines.tensorrt.api import generation, is_rtx, load_tensorrt_rtx, titled
from rrid_edge.errors import MissingDependencyError, ModelFileError, UsageError
from rrid_edge.machine.rtx import RTX_MODULES, RtxMachine, rtx_machine
from rrid_edge.model import choice
from rrid_edge.model.choice import choose_model
from rrid_edge.model.engine_sidecar import BuildFlags, EngineSidecar, Machine, PrecisionProof, Profile
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.rtx_target import RtxBuild, RtxTarget


def _module(name: str, version: str, *flags: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__version__"] = version
    module.__dict__["ComputeCapability"] = SimpleNamespace(SM89=89)
    module.__dict__["NetworkDefinitionCreationFlag"] = SimpleNamespace(**dict.fromkeys(flags, 0))
    return module


@pytest.mark.parametrize("name", RTX_MODULES)
def test_both_packagings_are_found(monkeypatch, name):
    for other in RTX_MODULES:
        monkeypatch.setitem(sys.modules, other, None)
    module = _module(name, "1.7.1.116", "STRONGLY_TYPED")
    monkeypatch.setitem(sys.modules, name, module)
    assert load_tensorrt_rtx() is module
    assert is_rtx(module)
    assert titled(module) == "TensorRT for RTX 1.7.1.116"


def test_the_generation_follows_the_features_not_the_version():
    assert generation(_module("tensorrt_rtx", "1.4.0.76", "EXPLICIT_BATCH", "STRONGLY_TYPED")) == 10
    assert generation(_module("tensorrt_rtx", "1.7.1.116", "STRONGLY_TYPED")) == 11
    assert generation(_module("tensorrt_rtx_bindings", "2.0", "STRONGLY_TYPED")) == 11
    ordinary = _module("tensorrt", "10.3.0", "EXPLICIT_BATCH", "STRONGLY_TYPED")
    assert (generation(ordinary), is_rtx(ordinary), titled(ordinary)) == (10, False, "TensorRT 10.3.0")


def test_an_unknown_api_is_refused_with_the_versions_that_were_tried():
    with pytest.raises(MissingDependencyError, match=r"1\.4\.0\.76 and 1\.7\.1\.116 were tried"):
        generation(_module("tensorrt_rtx", "3.0", "EXPLICIT_BATCH"))


def test_where_it_is_missing_the_extra_is_named(monkeypatch):
    for name in RTX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rrid-edge\[gpu-rtx-cu12\]'"):
        load_tensorrt_rtx()


CARD = RtxMachine("1.7.1.116", "8.9")


def _sidecar(path: Path, target: RtxTarget) -> EngineSidecar:
    sidecar = EngineSidecar(
        spec=fake_spec().with_precision("fp16"),
        machine=Machine("1.7.1.116", "RTX", "8.0"),
        profile=Profile(1, 8, 32),
        onnx_name="rrid.fp16.onnx",
        onnx_sha256="a" * 64,
        plan_sha256="b" * 64,
        plan_bytes=3,
        build_s=1.5,
        flags=BuildFlags(True, False, False, False, False, 512, None),
        proof=PrecisionProof(half=20, int8=0, single=6, other=2),
        rtx=RtxBuild(target, inspected=False),
    )
    sidecar.write(path)
    return sidecar


@pytest.mark.parametrize("target", [RtxTarget.of(()), RtxTarget.of(("8.9", "7.5"))])
def test_a_sidecar_keeps_runtime_and_gpus(tmp_path, target):
    path = tmp_path / "rrid.fp16.rtx"
    written = _sidecar(path, target)
    assert EngineSidecar.read(path) == written
    values = json.loads(sidecar_path(path).read_text())
    assert values["runtime"] == "tensorrt-rtx"
    assert values["rtx"]["target"]["compute_capabilities"] == list(target.compute_capabilities)
    assert "not run" in values["rtx"]["note"]
    assert "compiles its kernels" in values["rtx"]["note"]


def test_an_engine_is_of_the_runtime_that_its_name_says(tmp_path):
    _sidecar(tmp_path / "a.rtx", RtxTarget())
    sidecar_path(tmp_path / "a.rtx").rename(sidecar_path(tmp_path / "a.engine"))
    with pytest.raises(ModelFileError, match="runtime tensorrt-rtx contradicts the name"):
        EngineSidecar.read(tmp_path / "a.engine")
    values = json.loads(sidecar_path(tmp_path / "a.engine").read_text()) | {"rtx": None}
    sidecar_path(tmp_path / "a.rtx").write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match="contradicts the facts of a build for RTX"):
        EngineSidecar.read(tmp_path / "a.rtx")


@pytest.mark.parametrize(
    ("named", "capability", "fits"),
    [
        ((), "8.0", True),
        ((), "8.9", True),
        ((), "12.0", True),
        ((), "12.1", True),
        ((), "7.5", False),  # Turing must be named
        ((), "9.0", False),  # a server's GPU, not an RTX GPU
        (("7.5",), "7.5", True),
        (("7.5",), "8.0", False),
        (("12.0", "8.9"), "12.1", False),
    ],
)
def test_the_gpus_that_an_engine_serves(tmp_path, named, capability, fits):
    sidecar = _sidecar(tmp_path / "rrid.fp16.rtx", RtxTarget.of(named))
    assert sidecar.rtx is not None
    assert sidecar.rtx.target.serves(capability) == fits
    here = Machine("1.7.1.116", "a GPU", capability)
    if fits:
        sidecar.check_fits(here, tmp_path / "rrid.fp16.rtx")
    else:
        rebuilt = r"RTX GPUs of .*rrid-edge export .*rrid\.fp16\.onnx --for rtx"
        # A build for compute capability 9.0 would be refused, so none is advised.
        elsewhere = r"cannot run on a GPU, and none for RTX can: .*rrid-edge export rrid\.fp16\.onnx, or use"
        with pytest.raises(ModelFileError, match=elsewhere if capability == "9.0" else rebuilt):
            sidecar.check_fits(here, tmp_path / "rrid.fp16.rtx")


def test_another_version_is_refused(tmp_path):
    sidecar = _sidecar(tmp_path / "rrid.fp16.rtx", RtxTarget())
    with pytest.raises(ModelFileError, match=r"built for TensorRT for RTX 1\.7\.1\.116 \(here 1\.8\.0\)"):
        sidecar.check_fits(Machine("1.8.0", "a GPU", "8.9"), tmp_path / "rrid.fp16.rtx")


@pytest.mark.parametrize(
    ("named", "version", "capability", "options"),
    [
        ((), "1.7.1.116", "7.5", " --compute-capability 7.5"),  # the default does not serve Turing
        (("8.9",), "1.7.1.116", "8.6", " --compute-capability 8.6 --compute-capability 8.9"),
        (("8.9",), "1.8.0", "8.9", " --compute-capability 8.9"),
        ((), "1.8.0", "8.9", ""),
    ],
)
def test_the_command_in_a_refusal_builds_for_this_gpu(tmp_path, named, version, capability, options):
    sidecar = _sidecar(tmp_path / "rrid.fp16.rtx", RtxTarget.of(named))
    with pytest.raises(ModelFileError) as caught:
        sidecar.check_fits(Machine(version, "a GPU", capability), tmp_path / "rrid.fp16.rtx")
    assert caught.value.message.endswith(f"rrid-edge export {tmp_path / 'rrid.fp16.onnx'} --for rtx{options}")


@pytest.mark.parametrize("wrong", ["8,9", "sm89", "", "ampere"])
def test_a_compute_capability_is_a_number(wrong):
    with pytest.raises(UsageError, match=r"expected a number such as 8\.9"):
        RtxTarget.of((wrong,))


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        (None, "rrid.onnx"),
        (CARD, "rrid.fp16.rtx"),
        (replace(CARD, version=None), "rrid.fp16.rtx"),
        (replace(CARD, version="1.8.0"), "rrid.onnx"),
        (replace(CARD, compute_capability="7.5"), "rrid.onnx"),
    ],
)
def test_a_folder_gives_an_engine_for_rtx_only_where_an_rtx_gpu_runs_it(tmp_path, monkeypatch, machine, chosen):
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    monkeypatch.setattr(choice, "rtx_machine", lambda: machine)
    _sidecar(tmp_path / "rrid.fp16.rtx", RtxTarget())
    for name in ("rrid.fp16.rtx", "rrid.onnx"):
        (tmp_path / name).write_bytes(b"")
    assert choose_model(None, folder=tmp_path)[0].name == chosen


def test_a_machine_without_a_driver_has_no_rtx_gpu(monkeypatch):
    class Silent:
        cudaError_t = SimpleNamespace(cudaSuccess=0)  # noqa: N815 - NVIDIA's name

        def cudaGetDeviceProperties(self, _device):  # noqa: N802 - NVIDIA's name
            return 35, None

    monkeypatch.setitem(sys.modules, RTX_MODULES[0], _module(RTX_MODULES[0], "1.7.1.116", "STRONGLY_TYPED"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    package = ModuleType("cuda.bindings")
    package.__dict__["runtime"] = Silent()
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    assert rtx_machine() is None
    monkeypatch.setattr(
        Silent, "cudaGetDeviceProperties", lambda _self, _device: (0, SimpleNamespace(major=12, minor=0))
    )
    found = rtx_machine()
    assert found is not None
    assert found.compute_capability == "12.0"


def test_runtime_and_file_must_fit_each_other(tmp_path):
    for name in ("m.rtx", "m.engine", "m.onnx"):
        (tmp_path / name).write_bytes(b"")
    assert choose_runtime(tmp_path / "m.rtx").runtime == "tensorrt-rtx"
    assert choose_runtime(tmp_path / "m.rtx", "tensorrt-rtx").asked
    for name, runtime, wanted in (
        ("m.engine", "tensorrt-rtx", r"needs an engine file for RTX \(\.rtx\)"),
        ("m.onnx", "tensorrt-rtx", r"needs an engine file for RTX \(\.rtx\)"),
        ("m.rtx", "tensorrt", r"needs an engine file \(\.engine\)"),
        ("m.rtx", "openvino", "needs an ONNX file"),
    ):
        with pytest.raises(UsageError, match=wanted):
            choose_runtime(tmp_path / name, runtime)
