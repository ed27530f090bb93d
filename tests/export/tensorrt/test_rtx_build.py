"""Building and running engines of TensorRT for RTX, with stand-ins of both recorded versions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import check_tensorrt10_builder
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.engines.opening import open_engine
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import CheckFailedError, MissingDependencyError, ModelFileError, UsageError
from rrid_edge.machine.rtx import RTX_MODULES
from rrid_edge.model.engine_sidecar import EngineSidecar, Products
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.rtx_target import RtxTarget
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from rrid_export.triton import write_triton_repository
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model
from support.tensorrt_rtx import KERNELS, install_rtx
from support.tensorrt_standin import RTX_VERSIONS

SPEC = fake_spec().with_precision("fp16")
RTX = BuildSettings(opt_batch=2, max_batch=4, rtx=RtxTarget())


@pytest.fixture(params=RTX_VERSIONS)
def world(request, monkeypatch):
    """A machine without a GPU."""
    return install_rtx(monkeypatch, request.param)


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.fp16.onnx", SPEC)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder for compiled kernels, which takes small and new engines too."""
    monkeypatch.setenv("RRID_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rrid_edge.engines.compiled_cache.SMALLEST_MODEL_BYTES", 0)
    monkeypatch.setattr("rrid_edge.engines.compiled_cache._SETTLED_S", 0.0)
    return tmp_path / "cache"


def _with_gpu(monkeypatch, version=RTX_VERSIONS[1], gpu="8.9"):
    return install_rtx(monkeypatch, version, gpu)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_without_a_gpu_the_layers_in_the_log_prove_the_precision(world, tmp_path, precision, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_TENSORRT_LOG", str(tmp_path / "trt.log"))
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision(precision))
    sidecar = build_engine(path, tmp_path / "m.rtx", RTX)
    assert sidecar.proof.products == (Products(23, 0, 0, 0) if precision == "fp16" else Products(0, 23, 0, 0))
    assert sidecar.rtx is not None
    assert not sidecar.rtx.inspected
    layers = json.loads((tmp_path / "trt.log.inspector.json").read_text())["Layers"]
    assert len(layers) == sidecar.proof.layers
    world.built_precision = "fp32"
    with pytest.raises(CheckFailedError, match=f"not {precision}: 23 convolutions .* 23 in float32"):
        build_engine(path, tmp_path / "m.rtx", RTX)


def test_without_layers_in_the_log_the_network_proves_the_precision(world, onnx_path, tmp_path):
    world.lists_layers = False
    sidecar = build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", RTX)
    assert sidecar.machine.tensorrt == world.version.removeprefix("rtx_")
    assert sidecar.flags.strongly_typed
    assert sidecar.proof.products == Products(half=1, int8=0, single=0, other=0)
    assert sidecar.rtx is not None
    assert not sidecar.rtx.inspected
    assert "Runtime.__init__" not in world.log
    assert world.configs[0].fake_profiles == [[[1, 192, 64, 3], [2, 192, 64, 3], [4, 192, 64, 3]]]
    assert world.configs[0].fake_given == []  # no GPUs named: TensorRT's default
    assert list(tmp_path.glob("*.timing")) == []


def test_int8_counts_what_a_dequantisation_feeds(world, tmp_path):
    world.lists_layers = False
    path = save_tiny_model(tmp_path / "m.int8.onnx", fake_spec().with_precision("int8"))
    assert build_engine(path, tmp_path / "m.int8.rtx", RTX).proof.products == Products(0, 1, 0, 0)


def test_a_network_of_another_precision_is_refused(world, tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec())  # the stand-in's network has a float16 convolution
    with pytest.raises(CheckFailedError, match="is not fp32: 1 convolutions"):
        build_engine(path, tmp_path / "m.fp32.rtx", RTX)
    assert not list(tmp_path.glob("*.rtx*"))


def test_a_norm_in_float16_is_refused(world, onnx_path, tmp_path, monkeypatch):
    half = world.module.DataType.HALF
    original = world.module.OnnxParser.parse_from_file

    def parse(parser, model):
        answer = original(parser, model)
        norm = next(layer for layer in world.networks[-1].fake_layers if layer.fake_name == "norm")
        norm.fake_outputs[0].fake_dtype = half
        return answer

    monkeypatch.setattr(world.module.OnnxParser, "parse_from_file", parse)
    with pytest.raises(CheckFailedError, match=r"(norm|divide) after the last products computes in half"):
        build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", RTX)


def test_named_gpus_are_set(world, onnx_path, tmp_path):
    settings = BuildSettings(rtx=RtxTarget.of(("8.9", "7.5")))
    sidecar = build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", settings)
    (config,) = world.configs
    assert (config.fake_num_compute_capabilities, config.fake_given) == (2, ["SM75", "SM89"])
    assert sidecar.rtx is not None
    assert sidecar.rtx.target == RtxTarget(("7.5", "8.9"), later=False)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"version_compatible": True}, "version_compatible is not offered by TensorRT for RTX"),
        ({"hardware_compatible": True}, "hardware_compatible is not offered"),
        ({"strip_weights": True}, "strip_weights is not offered"),
        ({"timing_cache_folder": Path("times")}, "timing_cache_folder is not offered"),
        ({"strongly_typed": False}, "leave strong typing on"),
        ({"rtx": RtxTarget.of(("9.9",))}, r"compute capability 9\.9: expected one of 7\.5, 8\.0"),
    ],
)
def test_settings_that_rtx_does_not_have_are_refused(world, onnx_path, tmp_path, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", BuildSettings(**({"rtx": RtxTarget()} | settings)))
    assert not list(tmp_path.glob("*.rtx*"))


def test_on_an_rtx_pc_the_built_engine_is_inspected(monkeypatch, onnx_path, tmp_path):
    world = _with_gpu(monkeypatch)
    sidecar = build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", RTX)
    assert sidecar.rtx is not None
    assert sidecar.rtx.inspected
    assert "EngineInspector.get_engine_information" in world.log
    _with_gpu(monkeypatch, gpu="9.0")  # a server's GPU cannot load it
    other = build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", RTX)
    assert other.rtx is not None
    assert not other.rtx.inspected


def test_opening_without_a_gpu_says_what_is_missing(world, onnx_path, tmp_path):
    path = tmp_path / "rrid.fp16.rtx"
    build_engine(onnx_path, path, RTX)
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU answers here") as caught:
        open_engine(path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("version", RTX_VERSIONS)
def test_descriptors_and_kept_kernels(monkeypatch, onnx_path, tmp_path, cache, version):
    path = tmp_path / "rrid.fp16.rtx"
    world = _with_gpu(monkeypatch, version)
    build_engine(onnx_path, path, RTX)
    for opened in (1, 2):
        with open_engine(path, "tensorrt-rtx") as engine:
            assert engine.runtime == f"tensorrt-rtx {'.'.join(version.removeprefix('rtx_').split('.')[:2])} · Orin"
            for count in (1, 4, 4, 4, 7):
                images = np.random.default_rng(count).integers(0, 256, (count, 192, 64, 3), dtype=np.uint8)
                with FakeEngine(SPEC) as fake:
                    np.testing.assert_array_equal(engine.run(images), fake.run(images))
            assert isinstance(engine, TensorRTEngine)
            assert engine.graph_batches == ()  # RTX may still compile a kernel
        assert len(list(cache.glob("*.blob"))) == 1
        assert len(world.caches) == opened
    assert [used.fake_given for used in world.caches] == [b"", KERNELS + version.encode()]
    assert set(world.strategies) == {"EAGER"}
    assert world.cuda.live == 0


def test_an_engine_that_tensorrt_calls_invalid_is_refused(monkeypatch, onnx_path, tmp_path):
    path = tmp_path / "rrid.fp16.rtx"
    world = _with_gpu(monkeypatch)
    build_engine(onnx_path, path, RTX)
    world.valid = False
    with pytest.raises(ModelFileError, match=r"refused this engine on this GPU .*--for rtx"):
        open_engine(path)


def test_another_gpu_is_refused_before_tensorrt_sees_the_plan(monkeypatch, onnx_path, tmp_path):
    path = tmp_path / "rrid.fp16.rtx"
    _with_gpu(monkeypatch)
    build_engine(onnx_path, path, RTX)
    world = _with_gpu(monkeypatch, gpu="7.5")
    with pytest.raises(ModelFileError, match=r"built for RTX GPUs of .* \(here Orin, 7\.5\)"):
        open_engine(path)
    assert "Runtime.__init__" not in world.log


def test_export_for_rtx(world, onnx_path):
    done = rrid_edge("export", onnx_path, "--for", "rtx")
    engine = onnx_path.with_name("rrid.fp16.rtx")
    assert done.code == 0, done
    assert f"{engine}: fp16 engine for RTX" in done.out
    assert "built ahead of time and not run" in done.err
    told = rrid_edge("info", engine)
    assert "RTX GPUs of compute capability 8.0, 8.6, 8.9, 12.0 or later" in told.out
    assert "built ahead of time and not run" in told.out
    values = json.loads(rrid_edge("info", engine, "--json").out)
    assert (values["kind"], values["engine"]["runtime"]) == ("rtx_engine", "tensorrt-rtx")
    opened = rrid_edge("parity", engine)
    refused(opened, 3, "no NVIDIA GPU answers here")
    assert len(opened.err.strip().splitlines()) == 1
    refused(rrid_edge("export", engine), 2, "this is an engine already")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--compute-capability", "7.5"), "--compute-capability needs --for rtx"),
        (("--for", "rtx", "--triton", "repository"), "--triton and --for rtx exclude each other"),
        (("--for", "rtx", "--print-trtexec"), "not of TensorRT for RTX"),
        (("--for", "rtx", "--compute-capability", "ampere"), "expected a number such as 8.9"),
    ],
)
def test_options_that_exclude_each_other(onnx_path, words, complaint):
    refused(rrid_edge("export", onnx_path, *words), 2, complaint)


def test_without_the_package_the_extra_is_named(monkeypatch, onnx_path):
    for name in RTX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    refused(rrid_edge("export", onnx_path, "--for", "rtx"), 3, "pip install 'rrid-edge[gpu-rtx-cu12]'")


def test_triton_refuses_it(world, onnx_path, tmp_path):
    build_engine(onnx_path, tmp_path / "rrid.fp16.rtx", RTX)
    with pytest.raises(UsageError, match="Triton does not serve engines of TensorRT for RTX"):
        write_triton_repository(tmp_path / "rrid.fp16.rtx", tmp_path / "repository")


def test_the_sidecar_is_read_as_written(world, onnx_path, tmp_path):
    path = tmp_path / "rrid.fp16.rtx"
    written = build_engine(onnx_path, path, RTX)
    assert EngineSidecar.read(path).rtx == written.rtx
    assert json.loads(sidecar_path(path).read_text())["runtime"] == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("machine", "code", "words"),
    [
        ("x86_64", 1, "skipped: TensorRT for RTX 1.4.0.76 cannot be had here (no such package)"),
        ("aarch64", 0, "skipped"),
    ],
)
def test_the_check_on_the_api_of_10_is_skipped_with_a_word(monkeypatch, capsys, machine, code, words):
    monkeypatch.setattr("platform.machine", lambda: machine)
    failed = SimpleNamespace(returncode=code, stderr="a warning\nno such package")
    monkeypatch.setattr("check_tensorrt10_builder.subprocess.run", lambda *_words, **_options: failed)
    assert check_tensorrt10_builder.main([]) == 0
    assert words in capsys.readouterr().out
