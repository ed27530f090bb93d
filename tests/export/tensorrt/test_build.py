"""Building engines with a stand-in for each TensorRT version."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import (
    ArtefactError,
    CheckFailedError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    UsageError,
)
from rrid_edge.files import sha256_of_file
from rrid_edge.model.engine_sidecar import EngineSidecar, Products
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.network import configure, parse_network
from rrid_export.tensorrt.progress import PROGRESS_TOTAL, BuildProgress
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_tiny_model
from support.progress import CountedProgress
from support.tensorrt_behaviour import install
from support.tensorrt_layers import PRODUCTS
from support.tensorrt_standin import VERSIONS

NEW = VERSIONS[1:]


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.fp16.onnx", fake_spec().with_precision("fp16"))


@pytest.fixture
def engine_path(tmp_path):
    return tmp_path / "out" / "rrid.fp16.engine"


def test_build_writes_plan_and_sidecar(world, onnx_path, engine_path):
    sidecar = build_engine(onnx_path, engine_path, BuildSettings(min_batch=2, opt_batch=4, max_batch=16))
    assert sidecar == replace(EngineSidecar.read(engine_path), build_s=sidecar.build_s)
    assert sidecar.spec == fake_spec().with_precision("fp16")
    assert sidecar.machine.tensorrt == world.version
    assert (sidecar.machine.gpu, sidecar.machine.compute_capability) == ("Orin", "8.7")
    assert sidecar.machine.multiprocessors == 16
    assert sidecar.plan_bytes == engine_path.stat().st_size
    assert sidecar.plan_sha256 == sha256_of_file(engine_path)
    assert (sidecar.onnx_name, sidecar.onnx_sha256) == ("rrid.fp16.onnx", sha256_of_file(onnx_path))
    assert sidecar.proof.products == Products(half=PRODUCTS, int8=0, single=0, other=0)
    assert sidecar.proof.layers == (102 if world.generation == 8 else 38)
    assert sidecar.flags.strongly_typed == (world.generation > 8)
    (config,) = world.configs
    assert config.fake_profiles == [[[2, 192, 64, 3], [4, 192, 64, 3], [16, 192, 64, 3]]]
    assert config.fake_pools == {"WORKSPACE": 1024 * 1024 * 1024}


def test_only_tensorrt_8_chooses_the_precision_by_flags(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path)
    flags = world.configs[0].fake_flag_names
    assert flags == ({"FP16", "OBEY_PRECISION_CONSTRAINTS"} if world.generation == 8 else set())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_fp32_and_int8_files_give_fp32_and_int8_engines(world, tmp_path, precision):
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision(precision))
    proof = build_engine(path, tmp_path / "m.engine").proof
    flags = world.configs[0].fake_flag_names
    if precision == "fp32":
        assert proof.products == Products(half=0, int8=0, single=PRODUCTS, other=0)
        assert flags == set()  # TF32, which is on by default, was cleared
    else:
        assert proof.products == Products(half=0, int8=PRODUCTS, single=0, other=0)
        assert ("INT8" in flags) == (world.generation == 8)


def test_tf32_can_be_allowed(recent, tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    assert build_engine(path, tmp_path / "m.engine", BuildSettings(tf32=True)).flags.tf32
    assert "TF32" in recent.configs[0].fake_flag_names


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_flags_constrain_the_tail_to_float32(monkeypatch, onnx_path, engine_path, version):
    world = install(monkeypatch, version)
    build_engine(onnx_path, engine_path, BuildSettings(strongly_typed=False))
    layers = world.networks[0].fake_layers
    held = {layer.fake_name for layer in layers if hasattr(layer, "fake_precision")}
    # All layers after the cast back to float32, except constants and shape arithmetic.
    assert held == {"concat", "norm", "divide"}
    assert {layer.fake_precision.name for layer in layers if layer.fake_name in held} == {"FLOAT"}
    assert [layer.fake_types for layer in layers if layer.fake_name in held] == [{0: "FLOAT"}] * 3


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_flags_do_not_constrain_quantised_layers(monkeypatch, tmp_path, version):
    world = install(monkeypatch, version)
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision("int8"))
    build_engine(path, tmp_path / "m.engine", BuildSettings(strongly_typed=False))
    held = {layer.fake_name for layer in world.networks[0].fake_layers if hasattr(layer, "fake_precision")}
    assert held == {"concat", "norm", "divide"}
    # 8.6 finds no kernel for an int8 layer where it must obey constraints.
    assert world.configs[0].fake_flag_names == {"FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_norm_in_float16_is_refused_where_flags_choose_the_types(monkeypatch, tmp_path, precision):
    world = install(monkeypatch, "8.6.0")
    world.half_tail = True
    path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision(precision))
    with pytest.raises(CheckFailedError, match=r"norm in float16 \(layer 'node_sum_5'\), expected float32") as caught:
        build_engine(path, tmp_path / "m.engine")
    assert "\n" not in caught.value.message
    assert {item.name for item in tmp_path.iterdir()} == {"m.onnx"}


def test_tensorrt_11_refuses_to_choose_precisions_by_flags(monkeypatch, onnx_path, engine_path):
    install(monkeypatch, "11.4.0.106")
    with pytest.raises(UsageError, match="strong typing"):
        build_engine(onnx_path, engine_path, BuildSettings(strongly_typed=False))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_fp16_model_built_as_fp32_is_refused(monkeypatch, onnx_path, engine_path, version):
    world = install(monkeypatch, version)
    world.built_precision = "fp32"
    with pytest.raises(CheckFailedError, match=r"not fp16: 23 .* 0 in float16, 0 in int8, 23 in float32; nothing was"):
        build_engine(onnx_path, engine_path)
    assert not engine_path.parent.exists() or not list(engine_path.parent.iterdir())


def test_layer_names_without_types_are_refused(world, onnx_path, engine_path):
    world.cuts_names = True
    with pytest.raises(CheckFailedError, match="cannot be proved"):
        build_engine(onnx_path, engine_path)
    assert not engine_path.exists()


def test_a_failed_build_keeps_the_old_engine(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path)
    before = {path.name: path.read_bytes() for path in engine_path.parent.iterdir()}
    world.build_error = "no"
    with pytest.raises(ArtefactError):
        build_engine(onnx_path, engine_path)
    assert {path.name: path.read_bytes() for path in engine_path.parent.iterdir()} == before


def test_without_a_gpu_tensorrt_is_not_called(world, onnx_path, engine_path):
    world.cuda.driver_error = world.cuda.cudaError_t.cudaErrorInsufficientDriver
    world.cuda.driver_version = 0  # CUDA says so too where there is no driver at all
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU answers") as caught:
        build_engine(onnx_path, engine_path)
    assert caught.value.exit_code == 3
    assert world.log == []


def test_a_damaged_onnx_is_refused_before_tensorrt_is_called(world, onnx_path, engine_path):
    onnx_path.write_bytes(onnx_path.read_bytes()[:-40])
    with pytest.raises(ModelFileError):
        build_engine(onnx_path, engine_path)
    assert world.log == []


def test_a_precision_that_is_not_the_files_is_refused(recent, tmp_path, engine_path):
    path = save_tiny_model(tmp_path / "rrid.onnx")
    with pytest.raises(UsageError, match=r"stored in fp32.*export CHECKPOINT --fp16"):
        build_engine(path, engine_path, BuildSettings(precision="fp16"))


def test_timing_cache_is_reused_by_the_next_build(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path)
    cache = engine_path.with_name(f"tensorrt-{world.version}-sm87.timing")
    assert cache.read_bytes() == b"+times"
    build_engine(onnx_path, engine_path)
    assert world.configs[1].fake_given == [b"+times"]
    assert cache.read_bytes() == b"+times+times"


def test_a_timing_cache_that_cannot_be_read_is_replaced(world, onnx_path, engine_path):
    cache = engine_path.with_name(f"tensorrt-{world.version}-sm87.timing")
    cache.parent.mkdir(exist_ok=True)
    with cache.open("wb") as stream:
        stream.truncate(1 << 40)
    build_engine(onnx_path, engine_path)
    assert world.configs[0].fake_given == [b""]
    assert cache.read_bytes() == b"+times"


def test_a_timing_cache_of_another_gpu_is_replaced(world, onnx_path, tmp_path):
    settings = BuildSettings(timing_cache_folder=tmp_path / "cache")
    build_engine(onnx_path, tmp_path / "a.engine", settings)
    world.cache_fits = False
    build_engine(onnx_path, tmp_path / "b.engine", settings)
    assert world.configs[1].fake_given == [b"+times", b""]
    (cache,) = (tmp_path / "cache").iterdir()
    assert cache.read_bytes() == b"+times"


def test_progress_grows_to_the_total(world, onnx_path, engine_path):
    counted = CountedProgress()
    build_engine(onnx_path, engine_path, progress=counted)
    steps = counted.steps
    assert sum(steps) == counted.total == PROGRESS_TOTAL
    assert all(step > 0 for step in steps)
    assert len(steps) == (1 if world.generation == 8 else 20)


def test_nested_phases_add_up_to_the_total():
    counted = CountedProgress()
    progress = BuildProgress(counted)
    progress.start("whole", None, 2)
    progress.start("inner", "whole", 4)
    progress.step("inner", 0)
    assert counted.done == 125  # a quarter of the first half
    progress.step("inner", 2)
    progress.finish("inner")
    progress.step("whole", 0)
    assert counted.done == 500
    progress.step("unknown", 3)
    progress.finish("unknown")
    progress.complete()
    assert counted.done == PROGRESS_TOTAL


@pytest.mark.parametrize("version", NEW)
def test_ctrl_c_ends_the_build(monkeypatch, onnx_path, engine_path, version):
    install(monkeypatch, version)

    with pytest.raises(KeyboardInterrupt):
        build_engine(onnx_path, engine_path, progress=CountedProgress(interrupted_at=1))
    assert not engine_path.parent.exists()


def test_version_compatible_sets_the_flag(world, onnx_path, engine_path):
    assert build_engine(onnx_path, engine_path, BuildSettings(version_compatible=True)).flags.version_compatible
    assert "VERSION_COMPATIBLE" in world.configs[0].fake_flag_names


def test_hardware_compatible_sets_the_level(world, onnx_path, engine_path, monkeypatch, tmp_path):
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", tmp_path / "absent")
    assert build_engine(onnx_path, engine_path, BuildSettings(hardware_compatible=True)).flags.hardware_compatible
    assert world.configs[0].fake_hardware_compatibility_level.name == "AMPERE_PLUS"


def test_hardware_compatible_is_refused_on_jetson_and_old_gpus(recent, onnx_path, engine_path, monkeypatch):
    settings = BuildSettings(hardware_compatible=True)
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", onnx_path)
    with pytest.raises(UsageError, match="not offered on a Jetson"):
        build_engine(onnx_path, engine_path, settings)
    monkeypatch.setattr("rrid_edge.machine.gpu._JETSON_RELEASE", engine_path)
    recent.cuda.capability = (7, 5)
    with pytest.raises(UsageError, match=r"8\.0 or later"):
        build_engine(onnx_path, engine_path, settings)


def test_strip_weights_needs_tensorrt_10(world, onnx_path):
    engine_path, settings = onnx_path.with_name("rrid.fp16.engine"), BuildSettings(strip_weights=True)
    if world.generation == 8:
        with pytest.raises(UsageError, match=r"strip_weights does not work with TensorRT 8\.6\.0"):
            build_engine(onnx_path, engine_path, settings)
    else:
        assert build_engine(onnx_path, engine_path, settings).flags.strip_weights
        assert "STRIP_PLAN" in world.configs[0].fake_flag_names


def test_optimization_level_and_workspace_reach_the_builder(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path, BuildSettings(optimization_level=2, workspace_mib=64))
    assert world.configs[0].fake_builder_optimization_level == 2
    assert world.configs[0].fake_pools == {"WORKSPACE": 64 << 20}


def test_a_profile_that_tensorrt_refuses_is_a_usage_error(recent, onnx_path, monkeypatch):
    from rrid_edge.engines.cuda import Cuda

    trt = recent.module
    Cuda()
    logger = type("Quiet", (trt.ILogger,), {})()
    builder = trt.Builder(logger)
    network, _ = parse_network(trt, builder, logger, onnx_path, BuildSettings())
    monkeypatch.setattr(trt.IOptimizationProfile, "set_shape", lambda self, *shapes: None)
    with pytest.raises(UsageError, match="dynamic batch"):
        configure(trt, builder, network, fake_spec(), BuildSettings())


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"min_batch": 0}, "0, 8, 32"),
        ({"opt_batch": 64}, "smallest <= best <= largest"),
        ({"workspace_mib": 1}, "at least 16 MiB"),
        ({"optimization_level": 6}, "0 to 5"),
        ({"precision": "fp8"}, "none of fp32, fp16, int8"),
    ],
)
def test_invalid_settings_are_refused(wrong, complaint):
    with pytest.raises(UsageError, match=complaint):
        BuildSettings(**wrong)


def test_a_failed_write_leaves_no_file(recent, onnx_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        build_engine(onnx_path, tmp_path / "file" / "m.engine")
    target = tmp_path / "taken.engine"
    target.mkdir()
    with pytest.raises(OutputError):
        build_engine(onnx_path, target)
    assert not target.with_name("taken.engine.json").exists()


def test_building_needs_neither_torch_nor_onnx():
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx', 'onnxruntime', 'tensorrt'): sys.modules[name] = None\n"
        "import rrid_export.tensorrt.build, rrid_export.triton, rrid_edge.engines.tensorrt.engine\n"
        "import rrid_edge.engines.onnxruntime.cuda\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
