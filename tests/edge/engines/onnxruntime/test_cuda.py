"""Tests of ONNX Runtime on a GPU, with a stand-in session that reads and writes the CUDA stand-in."""

from __future__ import annotations

import ctypes
import inspect
import sys
from dataclasses import replace

import numpy as np
import pytest

from rrid_edge.engines import Engine, FakeEngine
from rrid_edge.engines.fake import fake_spec
from rrid_edge.engines.onnxruntime import cuda as cuda_module
from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine, cuda_providers
from rrid_edge.errors import MissingDependencyError, ModelFileError, UsageError
from rrid_edge.machine.gpu import Gpu
from support.cuda_standin import CudaStandin
from support.onnx_models import save_tiny_model
from support.onnxruntime_standin import Binding, OnnxRuntimeWorld, install_onnxruntime

SPEC = fake_spec()


@pytest.fixture
def world(monkeypatch):
    return install_onnxruntime(monkeypatch, SPEC)


@pytest.fixture
def path(tmp_path):
    return save_tiny_model(tmp_path / "m.onnx", SPEC)


def _images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8)


def test_the_standin_has_the_real_signatures():
    onnxruntime = pytest.importorskip("onnxruntime")
    world = OnnxRuntimeWorld(CudaStandin(), SPEC)
    for ours, real, names in (
        (Binding, onnxruntime.IOBinding, ("bind_input", "bind_output")),
        (
            world.module.InferenceSession,
            onnxruntime.InferenceSession,
            ("__init__", "get_providers", "io_binding", "run_with_iobinding"),
        ),
    ):
        for name in names:
            found = list(inspect.signature(getattr(ours, name)).parameters)
            assert found == list(inspect.signature(getattr(real, name)).parameters), name


@pytest.mark.parametrize("greedy", [False, True])
def test_descriptors_of_every_batch_size(world, path, greedy):
    world.cuda.greedy = greedy
    with OnnxRuntimeCudaEngine(path, max_batch=4) as engine:
        assert isinstance(engine, Engine)
        assert (engine.runtime, engine.arithmetic) == ("onnxruntime CUDA fp32", "fp32")
        for count in (0, 1, 4, 3, 9, 1, 5):
            images = _images(count, seed=count)
            np.testing.assert_array_equal(engine.run(images), FakeEngine(SPEC).run(images))
        assert len(world.bindings) == 3  # one per batch size: 1, 3, 4
        assert world.cuda.calls.count("cudaMalloc") == world.cuda.calls.count("cudaMallocHost") == 2
    assert world.cuda.live == 0


def test_the_result_belongs_to_the_caller(world, path):
    with OnnxRuntimeCudaEngine(path) as engine:
        first = engine.run(_images(1, seed=1))
        copy = first.copy()
        engine.run(_images(1, seed=2))
        np.testing.assert_array_equal(first, copy)


def test_the_session_computes_exactly_and_on_the_engines_stream(world, path):
    with OnnxRuntimeCudaEngine(path):
        stream = next(iter(world.cuda.streams))
        assert world.providers == cuda_providers(stream)
        assert world.providers[0][1]["use_tf32"] == "0"
        assert world.preloaded == 1


def test_closing_twice_is_safe_and_running_after_it_is_not(world, path):
    engine = OnnxRuntimeCudaEngine(path)
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="was closed"):
        engine.run(_images(1))
    assert world.cuda.live == 0


def test_an_onnxruntime_without_the_provider(world, path):
    world.available = ["CPUExecutionProvider"]
    with pytest.raises(MissingDependencyError, match="built without it") as caught:
        OnnxRuntimeCudaEngine(path)
    assert caught.value.exit_code == 3


def test_a_provider_that_falls_back_to_the_cpu_is_refused(world, path):
    world.started = ["CPUExecutionProvider"]
    with pytest.raises(MissingDependencyError, match="did not start"):
        OnnxRuntimeCudaEngine(path)
    assert world.cuda.live == 0


SERVER = Gpu("server", "x86_64", "550.54.14", (12, 4))
JETSON = Gpu("jetson", "aarch64", "", (12, 6), (36, 4, 3))
MISSING = "libcublasLt.so.12: cannot open shared object file: No such file or directory"


@pytest.fixture
def library(monkeypatch, tmp_path):
    """The library of the CUDA provider, which the loader refuses as the real one is refused without cuBLAS."""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"")

    def load(name: str) -> None:
        raise OSError(MISSING)

    monkeypatch.setattr(cuda_module, "onnxruntime_folder", lambda: tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", load)


@pytest.mark.parametrize(
    ("gpu", "built", "command"),
    [
        (SERVER, None, "pip install 'rrid-edge[gpu-cu12]'; or use the runtime onnxruntime on the CPU"),
        (SERVER, (12, 8), "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.21,<1.25'; or"),
        (replace(SERVER, cuda=(13, 0)), (13, 0), "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.28'; or"),
        (JETSON, (12, 6), "build a TensorRT engine instead: rrid-edge export MODEL.onnx"),
    ],
    ids=["unknown", "cuda12", "cuda13", "jetson"],
)
def test_a_provider_without_its_libraries_names_them_and_the_command(
    world, path, library, monkeypatch, gpu, built, command
):
    world.started = ["CPUExecutionProvider"]
    monkeypatch.setattr(cuda_module, "this_gpu", lambda: gpu)
    monkeypatch.setattr("rrid_edge.machine.advice.this_gpu", lambda: gpu)
    monkeypatch.setattr(cuda_module, "onnxruntime_cuda", lambda: built)
    with pytest.raises(MissingDependencyError) as caught:
        OnnxRuntimeCudaEngine(path)
    assert f"(it did not start: {MISSING}): {command}" in caught.value.message
    assert ("pip install" in caught.value.message) == (gpu is not JETSON)
    assert world.cuda.live == 0


def test_a_missing_package_has_the_extra_of_the_gpu(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("rrid_edge.machine.advice.this_gpu", lambda: SERVER)
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime-gpu', .*: pip install 'rrid-edge\[gpu-cu12\]'$"):
        OnnxRuntimeCudaEngine(path)


def test_what_the_package_prints_stays_off_stdout_and_becomes_the_reason(world, path, monkeypatch, capsys):
    world.started = ["CPUExecutionProvider"]
    world.complaint = "Failed to load libcudnn.so.9: libcudnn.so.9: cannot open shared object file\nPlease follow ..."
    monkeypatch.setattr(cuda_module, "onnxruntime_folder", lambda: None)
    with pytest.raises(MissingDependencyError, match=r"did not start: Failed to load libcudnn\.so\.9"):
        OnnxRuntimeCudaEngine(path)
    assert capsys.readouterr().out == ""
    assert world.severities == [4, 2]  # its log is silent while the session opens, and as before after it


def test_a_build_for_a_newer_cuda_than_the_driver_serves_is_named(world, path, monkeypatch):
    monkeypatch.setattr(cuda_module, "onnxruntime_cuda", lambda: (13, 0))
    monkeypatch.setattr(cuda_module, "this_gpu", lambda: SERVER)
    said = (
        r"onnxruntime-gpu is for CUDA 13, but this driver serves CUDA 12\.4: pip install 'onnxruntime-gpu\[cuda,cudnn\]"
    )
    with pytest.raises(MissingDependencyError, match=said):
        OnnxRuntimeCudaEngine(path)
    assert world.cuda.live == 0


def test_no_gpu_is_one_line(world, path):
    world.cuda.devices = 0
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU answers"):
        OnnxRuntimeCudaEngine(path)


def test_failures_of_the_runtime_are_one_line(world, path):
    with OnnxRuntimeCudaEngine(path) as engine:
        world.error = "Failed to allocate memory for requested buffer\nmore"
        with pytest.raises(UsageError, match="memory does not suffice"):
            engine.run(_images(1))
        world.error = "Non-zero status code\nmore"
        with pytest.raises(ModelFileError, match=r"cannot run this model on the GPU \(Non-zero status code\)"):
            engine.run(_images(1))
        world.error = None
        np.testing.assert_array_equal(engine.run(_images(2)), FakeEngine(SPEC).run(_images(2)))


def test_closing_after_a_failure_waits_for_what_is_in_flight(world, path):
    engine = OnnxRuntimeCudaEngine(path)
    world.error = "no"
    with pytest.raises(ModelFileError):
        engine.run(_images(1))
    engine.close()
    assert world.cuda.live == 0


def test_a_full_device_leaves_nothing(world, path):
    world.cuda.memory = 1000
    with pytest.raises(UsageError, match="memory does not suffice"):
        OnnxRuntimeCudaEngine(path)
    assert world.cuda.live == 0
