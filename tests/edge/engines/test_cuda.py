"""Tests of the layer over cuda-bindings: signatures match the real package, and each error is one line."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

import rrid_edge.engines.cuda as cuda_module
from rrid_edge.engines.cuda import Cuda, host_array
from rrid_edge.errors import GpuFaultError, MissingDependencyError, UsageError
from rrid_edge.machine.gpu import Gpu, cuda_version
from support.cuda_standin import CudaStandin, cudaError_t, install_cuda


@pytest.fixture
def standin(monkeypatch):
    return install_cuda(monkeypatch)


def _calls() -> dict[str, set[int]]:
    """Return the functions of the CUDA runtime that the module calls, with their numbers of arguments."""
    found: dict[str, set[int]] = {}
    for node in ast.walk(ast.parse(Path(cuda_module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = ast.unparse(node.func.value), node.func.attr
            if owner == "self._runtime":
                found.setdefault(name, set()).add(len(node.args))
    return found


def _members() -> set[tuple[str, str]]:
    """Return the enum members that the module names, such as ``(cudaError_t, cudaSuccess)``."""
    found = set()
    for node in ast.walk(ast.parse(Path(cuda_module.__file__).read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if text.startswith("self._runtime.") and text.count(".") == 3:
            kind, member = text.split(".")[2:]
            found.add((kind, member))
    return found


def test_calls_fit_the_real_package():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    calls = _calls()
    assert len(calls) > 20
    for name, counts in calls.items():
        parameters = inspect.signature(getattr(runtime, name)).parameters
        assert counts == {len(parameters)}, name
    for kind, member in _members():
        assert hasattr(getattr(runtime, kind), member), (kind, member)
    for name in ("cudaStreamNonBlocking", "cudaEventDisableTiming"):
        assert getattr(runtime, name) == getattr(CudaStandin, name)


def test_the_standin_has_the_real_signatures():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for name in (*_calls(), "cudaMemcpy", "cudaStreamCreate"):
        ours = list(inspect.signature(getattr(CudaStandin, name)).parameters)[1:]
        assert ours == list(inspect.signature(getattr(runtime, name)).parameters), name
    for kind in (cudaError_t, CudaStandin.cudaMemcpyKind, CudaStandin.cudaStreamCaptureMode):
        for member in kind:
            assert int(getattr(getattr(runtime, kind.__name__), member.name)) == member


def test_the_real_package_takes_plain_integers_and_answers_tuples():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("a GPU answers here: made-up handles would be used")
    kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    for answer in (
        runtime.cudaStreamSynchronize(1),
        runtime.cudaEventRecord(1, 1),
        runtime.cudaStreamWaitEvent(1, 1, 0),
        runtime.cudaMemcpyAsync(1, 1, 1, kind, 1),
        runtime.cudaStreamBeginCapture(1, mode),
        runtime.cudaStreamEndCapture(1),
        runtime.cudaGraphLaunch(1, 1),
        runtime.cudaGraphExecDestroy(1),
        runtime.cudaFree(1),
        runtime.cudaFreeHost(1),
        runtime.cudaStreamDestroy(1),
        runtime.cudaEventDestroy(1),
        runtime.cudaMalloc(8),
        runtime.cudaMemGetInfo(),
    ):
        assert isinstance(answer, tuple)
        assert answer[0].name == "cudaErrorInsufficientDriver"
    with pytest.raises(MissingDependencyError, match="no NVIDIA GPU answers"):
        Cuda()


def test_a_device_says_its_name(standin):
    device = Cuda().device()
    assert (device.name, device.compute_capability) == ("Orin", "8.7")
    assert device.multiprocessors == 16
    assert Cuda().free_memory_bytes() == 1 << 33


@pytest.mark.parametrize("error", ["cudaErrorInsufficientDriver", "cudaErrorNoDevice"])
def test_no_driver_is_one_line(standin, error, monkeypatch):
    standin.driver_error, standin.driver_version = cudaError_t[error], 0
    monkeypatch.setattr(cuda_module, "driver_cuda", lambda: None)
    with pytest.raises(MissingDependencyError, match=error) as caught:
        Cuda()
    assert caught.value.exit_code == 3


SERVER = Gpu("server", "x86_64", "550.54.14")
ORIN = Gpu("jetson", "aarch64", "", None, (36, 4, 3))
NEWER = r"install a newer NVIDIA driver \(525 or later for CUDA 12, 580 or later for CUDA 13\)"


@pytest.mark.parametrize(
    ("gpu", "number", "bindings", "said"),
    [
        (
            SERVER,
            12040,
            "13.5.0",
            r"the NVIDIA driver 550\.54\.14 is too old for cuda-bindings 13\.5\.0: this driver serves CUDA 12\.4, "
            rf"expected 13\.0 or later; pip install 'cuda-bindings>=12\.9,<13', or {NEWER}$",
        ),
        (
            SERVER,
            11080,
            "12.9.10",
            rf"cuda-bindings 12\.9\.10: this driver serves CUDA 11\.8, expected 12\.0 or later; {NEWER}$",
        ),
        (
            ORIN,
            12060,
            "13.4.4",
            r"CUDA 12\.6, expected 13\.0 or later; pip install 'cuda-bindings>=12\.9,<13', or flash",
        ),
        (
            Gpu("wsl2", "x86_64"),
            12030,
            "13.0.0",
            r"CUDA 12\.3, .*'cuda-bindings>=12\.9,<13', or .* in Windows, not in WSL2$",
        ),
    ],
    ids=["server", "old-server", "jetson", "wsl2"],
)
@pytest.mark.parametrize("asked", ["runtime", "libcuda"])
def test_a_driver_that_is_too_old_is_named_with_the_command(standin, monkeypatch, gpu, number, bindings, said, asked):
    standin.driver_error = cudaError_t.cudaErrorInsufficientDriver
    standin.driver_version = number if asked == "runtime" else 0
    monkeypatch.setattr(cuda_module, "driver_cuda", lambda: cuda_version(number))
    monkeypatch.setattr(cuda_module, "this_gpu", lambda: gpu)
    monkeypatch.setattr(cuda_module, "installed_version", {"cuda-bindings": bindings}.get)
    with pytest.raises(MissingDependencyError, match=said) as caught:
        Cuda()
    assert caught.value.exit_code == 3
    assert "no NVIDIA GPU" not in caught.value.message
    assert "[gpu" not in caught.value.message


def test_a_missing_library_is_one_line(standin, monkeypatch):
    def fail():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(standin, "cudaGetDeviceCount", fail)
    with pytest.raises(MissingDependencyError, match="Failed to dlopen"):
        Cuda()


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (Gpu("none", "x86_64"), "check with nvidia-smi, or use"),
        (SERVER, "check with nvidia-smi, and start a container with: docker run --gpus all, or use"),
        (ORIN, "check that JetPack is installed, and start a container with: docker run --runtime nvidia, or use"),
        (Gpu("wsl2", "x86_64"), "check with nvidia-smi, and set LD_LIBRARY_PATH=/usr/lib/wsl/lib, or use"),
    ],
    ids=["none", "server", "jetson", "wsl2"],
)
def test_a_gpu_that_does_not_answer_says_where_to_look(standin, monkeypatch, gpu, said):
    standin.devices = 0
    monkeypatch.setattr(cuda_module, "this_gpu", lambda: gpu)
    with pytest.raises(MissingDependencyError, match=r"no NVIDIA GPU answers here \(0 devices\)") as caught:
        Cuda()
    assert said in caught.value.message


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingDependencyError, match=r"cuda-bindings.*rrid-edge\[gpu-cu12\]"):
        Cuda()


def test_a_full_device_says_how_full(standin):
    cuda = Cuda()
    standin.memory = 3 << 20
    address = cuda.allocate(1 << 20)
    with pytest.raises(UsageError, match=r"allocating 4\.0 MiB failed, 2\.0 MiB of 3\.0 MiB are free"):
        cuda.allocate(4 << 20)
    cuda.free(address)


def test_other_errors_name_the_call(standin):
    cuda = Cuda()
    with pytest.raises(GpuFaultError, match="freeing device memory failed with cudaErrorInvalidValue"):
        cuda.free(12345)
    standin.sync_error = cudaError_t.cudaErrorInsufficientDriver
    stream = cuda.create_stream()
    with pytest.raises(MissingDependencyError):
        cuda.synchronize(stream)


def test_copies_go_there_and_back_in_order(standin):
    cuda = Cuda()
    stream = cuda.create_stream()
    host, device = cuda.allocate_host(24), cuda.allocate(24)
    values = host_array(host, (2, 3), np.float32)
    values[:] = np.arange(6).reshape(2, 3)
    cuda.copy_to_device(device, host, 24, stream)
    cuda.synchronize(stream)
    values[:] = 0
    cuda.copy_to_host(host, device, 24, stream)
    assert not values.any()  # the stand-in does nothing before it is waited for
    cuda.synchronize(stream)
    np.testing.assert_array_equal(values, np.arange(6).reshape(2, 3))


def test_a_failed_capture_leaves_the_stream_usable(standin):
    cuda = Cuda()
    stream = cuda.create_stream()
    assert cuda.capture(stream, lambda: False) is None
    assert standin.graphs == standin.executables == {}

    def fail() -> bool:
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        cuda.capture(stream, fail)
    cuda.synchronize(stream)


def test_modules_load_lazily(monkeypatch):
    pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)
    cuda_module.import_cuda_runtime()
    import os

    assert os.environ["CUDA_MODULE_LOADING"] == "LAZY"
