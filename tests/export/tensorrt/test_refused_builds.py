"""Builds that TensorRT refuses: each ends in one line with the reason, and writes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import ArtefactError, GpuFaultError, MissingDependencyError, ModelFileError, UsageError
from rrid_export.tensorrt.build import build_engine
from rrid_export.tensorrt.settings import BuildSettings
from support.onnx_models import save_changed_model, save_tiny_model, tiny_model
from support.tensorrt_behaviour import NO_KERNEL, install
from support.tensorrt_standin import VERSIONS


@pytest.fixture
def onnx_path(tmp_path):
    return save_tiny_model(tmp_path / "rrid.fp16.onnx", fake_spec().with_precision("fp16"))


@pytest.fixture
def engine_path(tmp_path):
    return tmp_path / "out" / "rrid.fp16.engine"


def test_parser_errors_name_their_nodes(world, onnx_path, engine_path):
    world.parser_errors = ["cannot  resize\nthat", "nor this"]
    with pytest.raises(ModelFileError) as caught:
        build_engine(onnx_path, engine_path)
    nodes = (
        ("node 40: cannot resize that", "node 41: nor this")
        if world.generation == 8
        else ("node '/layer0/Resize' (Resize): cannot resize that", "node '/layer1/Resize' (Resize): nor this")
    )
    assert "; ".join(nodes) in caught.value.message
    assert "\n" not in caught.value.message
    assert not engine_path.parent.exists()


def test_a_failed_build_gives_the_reason_and_writes_nothing(world, onnx_path, engine_path):
    world.build_error = "Could not find any implementation for node\n conv"
    with pytest.raises(ArtefactError, match="Could not find any implementation for node conv") as caught:
        build_engine(onnx_path, engine_path)
    assert caught.value.exit_code == 4
    assert not engine_path.parent.exists()


def test_too_little_gpu_memory_is_reported_in_one_line(world, onnx_path, engine_path):
    world.build_error = "[virtualMemoryBuffer.cpp] Cuda Runtime (out of memory)"
    with pytest.raises(UsageError, match="memory does not suffice") as caught:
        build_engine(onnx_path, engine_path)
    assert "\n" not in caught.value.message
    assert not engine_path.parent.exists()


@pytest.mark.parametrize("knob", ["load_error", "context_error"])
def test_an_engine_that_cannot_be_loaded_is_not_written(world, onnx_path, engine_path, knob):
    setattr(world, knob, "some reason")
    with pytest.raises(ArtefactError, match="some reason"):
        build_engine(onnx_path, engine_path)
    assert not engine_path.exists()


def test_more_workspace_is_advised_only_where_it_was_too_small(world, onnx_path, engine_path):
    world.build_error = f"{NO_KERNEL} node_conv2d due to insufficient workspace. See verbose log for requested sizes.)"
    with pytest.raises(ArtefactError, match="try more workspace") as caught:
        build_engine(onnx_path, engine_path)
    assert caught.value.parameters == ("workspace_mib",)
    world.build_error = f"{NO_KERNEL} node_conv2d.)"
    with pytest.raises(ArtefactError, match="use another precision of the model") as caught:
        build_engine(onnx_path, engine_path)
    assert "workspace;" not in caught.value.message
    assert "more workspace" not in caught.value.message


def test_a_timing_cache_that_does_not_fit_is_not_the_reason(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path)
    world.cache_fits, world.build_error = False, "the reason"
    with pytest.raises(ArtefactError, match="first error: the reason; last error"):
        build_engine(onnx_path, engine_path)


def test_a_timing_cache_that_cannot_be_kept_is_left_out(world, onnx_path, engine_path):
    world.cache_serialises = False
    build_engine(onnx_path, engine_path)
    assert not list(engine_path.parent.glob("*.timing"))


def test_a_builder_that_does_not_start_gives_its_reason(world, onnx_path, engine_path):
    world.builder_error = "6: no builder"
    with pytest.raises(ArtefactError, match=r"refused starting its builder \(6: no builder\)"):
        build_engine(onnx_path, engine_path)
    world.builder_error = "6: CUDA initialization failure with error: 35. Please check your CUDA installation"
    with pytest.raises(
        MissingDependencyError, match=r"\(6: CUDA initialization failure .*driver is missing or too old"
    ):
        build_engine(onnx_path, engine_path)


def test_a_runtime_that_does_not_start_gives_its_reason(world, onnx_path, engine_path):
    build_engine(onnx_path, engine_path)
    world.runtime_error = "no room for the runtime"
    with pytest.raises(ArtefactError, match=r"refused starting its runtime \(no room for the runtime\); nothing was"):
        build_engine(onnx_path, engine_path.with_name("other.engine"))
    with pytest.raises(ModelFileError, match=r"refused starting its runtime \(no room for the runtime\); rebuild"):
        TensorRTEngine(engine_path)
    assert not engine_path.with_name("other.engine").exists()


def test_of_many_parser_errors_the_first_and_the_last_are_told(world, onnx_path, engine_path):
    world.parser_errors = ["the first", "between", " ", "between", "the last"]
    with pytest.raises(
        ModelFileError,
        match=r"the first; 2 more; node .*the last; use the file with the runtime",
    ) as caught:
        build_engine(onnx_path, engine_path)
    assert "between" not in caught.value.message


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_file_that_is_no_onnx_names_no_node(monkeypatch, onnx_path, engine_path, version):
    world = install(monkeypatch, version)
    monkeypatch.setattr(world.module.ParserError, "node_operator", lambda self: "")
    world.parser_errors = ["Failed to parse the ONNX model. In parse at /_src/parser.cpp:12"]
    with pytest.raises(
        ModelFileError,
        match="cannot read this model: Failed to parse the ONNX model; use the file with the runtime",
    ):
        build_engine(onnx_path, engine_path)


def test_computed_weights_need_the_kernels_shape_before_10_4(world, tmp_path, engine_path):
    model, path = tiny_model(), tmp_path / "rrid.onnx"
    model.graph.node.insert(5, helper.make_node("Identity", ["kernel"], ["computed"], "compute"))
    model.graph.node.insert(6, helper.make_node("Conv", ["pooled", "computed"], ["unused"], "conv"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "kernel"))
    save_changed_model(path, model)
    if world.version in ("8.6.0", "10.3.0"):
        with pytest.raises(ModelFileError, match=r"cannot read this model: .*conv: the kernel's shape is unknown"):
            build_engine(path, engine_path)
        world.parser_errors.clear()
    else:
        build_engine(path, engine_path)
    model.graph.node[6].attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
    build_engine(save_changed_model(path, model), engine_path)


def test_a_parser_without_errors_gives_those_of_the_log(world, onnx_path, engine_path, monkeypatch):
    def refuse(self, model):
        world.error(world.parser_logger, "ModelImporter: no memory for weights")
        return False

    monkeypatch.setattr(world.module.OnnxParser, "parse_from_file", refuse)
    with pytest.raises(ModelFileError, match="cannot read this model: ModelImporter: no memory for weights; use the"):
        build_engine(onnx_path, engine_path)


def test_a_lean_runtime_that_only_tensorrt_misses_is_named(world, onnx_path, engine_path, monkeypatch):
    monkeypatch.setattr("rrid_export.tensorrt.settings.load_lean_runtime", lambda version: "somewhere else")
    world.lean_runtimes.clear()
    with pytest.raises(MissingDependencyError) as caught:
        build_engine(onnx_path, engine_path, BuildSettings(version_compatible=True))
    library = f"libnvinfer_lean.so.{world.generation}"
    assert f"Unable to load library: {library}: " in caught.value.message
    assert f"needs the lean runtime of TensorRT {world.version} ({library})" in caught.value.message
    assert caught.value.parameters == ("version_compatible", "exclude_lean_runtime")
    assert not engine_path.parent.exists()


@pytest.mark.parametrize(
    ("knob", "reason", "error"),
    [
        (
            "load_error",
            "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version)",
            MissingDependencyError,
        ),
        ("context_error", "Requested amount of GPU memory (9 bytes) could not be allocated", UsageError),
        ("enqueue_error", "Error Code 1: Cuda Runtime (an illegal memory access was encountered)", GpuFaultError),
        ("enqueue_error", "Error Code 3: API Usage Error (a shape is missing)", ModelFileError),
    ],
    ids=["driver", "memory", "fault", "other"],
)
def test_a_running_engine_gives_the_error_that_fits(monkeypatch, onnx_path, engine_path, knob, reason, error):
    world = install(monkeypatch, "10.13.3.9")
    build_engine(onnx_path, engine_path)
    setattr(world, knob, reason)
    with pytest.raises(error) as caught, TensorRTEngine(engine_path) as engine:
        engine.run(np.zeros((1, 192, 64, 3), np.uint8))
    assert type(caught.value) is error
    assert reason in caught.value.message
    assert ("rebuild the engine" in caught.value.message) == (error is ModelFileError)


def test_int8_on_8_6_finds_no_kernel_if_it_must_obey(monkeypatch, tmp_path):
    world = install(monkeypatch, "8.6.0")
    onnx_path = save_tiny_model(tmp_path / "m.onnx", fake_spec().with_precision("int8"))
    build_engine(onnx_path, tmp_path / "m.engine")
    world.module.BuilderFlag.PREFER_PRECISION_CONSTRAINTS = world.module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS
    with pytest.raises(ArtefactError, match="Could not find any implementation for node node_conv2d"):
        build_engine(onnx_path, tmp_path / "m.engine")
