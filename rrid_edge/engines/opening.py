"""``open_engine``: open a model file on the best runtime of this machine."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.engines.base import Engine
from rrid_edge.errors import UsageError, printable
from rrid_edge.machine.facts import onnxruntime_cuda, onnxruntime_folder
from rrid_edge.machine.gpu import this_gpu
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.rtx_target import RTX_RUNTIME

RUNTIMES = (
    *("auto", "tensorrt", RTX_RUNTIME, "onnxruntime-cuda"),
    *("openvino", "openvino-gpu", "openvino-npu", "onnxruntime"),
)
_ENGINE_RUNTIMES = {Kind.ENGINE: "tensorrt", Kind.RTX_ENGINE: RTX_RUNTIME}
_ENGINE_FILES = {"tensorrt": "an engine file (.engine)", RTX_RUNTIME: "an engine file for RTX (.rtx)"}
_OPENVINO_DEVICES = {"openvino": "CPU", "openvino-gpu": "GPU", "openvino-npu": "NPU"}


def open_engine(
    path: str | Path,
    runtime: str = "auto",
    *,
    precision: str | None = None,
    threads: int = 0,
    max_batch: int = 32,
) -> Engine:
    """Open a model file on a runtime.

    Args:
        path: an ONNX file, a TensorRT engine (``.engine``, ``.plan``), one of TensorRT for RTX (``.rtx``), or an
            adopted OpenVINO IR (``.xml``).
        runtime: one of :data:`RUNTIMES`. ``auto`` takes the first available: the TensorRT of an engine file; ONNX
            Runtime CUDA with an NVIDIA GPU; OpenVINO on an x86 CPU; ONNX Runtime on the CPU. It never takes Intel's
            integrated graphics or NPU.
        precision: arithmetic to force on OpenVINO (``fp32``, ``bf16``, ``fp16``). Other runtimes use the file's own.
        threads: CPU threads; 0 lets the runtime choose, within the cores that this process may use.
        max_batch: images per call; a TensorRT engine uses the limit of its profile.

    Raises:
        UsageError: no such file, a name that is not UTF-8, an unknown runtime, or a precision that the runtime does not
            support.
        MissingDependencyError: the runtime is not installed.
        ModelFileError: the file is damaged or does not fit.
    """
    path = Path(path)
    _refuse_name_without_utf8(path)
    chosen = choose_runtime(path, runtime, precision=precision).runtime
    return _open(path, chosen, precision=precision, threads=threads, max_batch=max_batch)


def _refuse_name_without_utf8(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{printable(path)}: the name is not UTF-8, which no runtime opens; rename the file or its folder",
            parameter="model",
        ) from error


def engine_runtime(path: Path) -> str | None:
    """The runtime of an engine file, by its name; None for other files."""
    return _ENGINE_RUNTIMES.get(kind_of(path))


@dataclass(frozen=True)
class RuntimeChoice:
    """The runtime for a model file, and why it was chosen.

    Attributes:
        runtime: one of :data:`RUNTIMES`, never ``auto``.
        asked: True if the caller named the runtime, False if ``auto`` chose it.
        passed_over: runtimes that ``auto`` prefers, each with the reason why it was skipped.
    """

    runtime: str
    asked: bool
    passed_over: tuple[str, ...] = ()

    def describe(self) -> str:
        """The choice in a few words."""
        if self.asked:
            return "runtime as asked"
        reasons = f" (passed over: {'; '.join(self.passed_over)})" if self.passed_over else ""
        return f"runtime {self.runtime}{reasons}"


def choose_runtime(path: str | Path, runtime: str = "auto", *, precision: str | None = None) -> RuntimeChoice:
    """Choose the runtime as :func:`open_engine` does, without opening the file.

    Raises:
        UsageError: no such file, an unknown runtime, or one that cannot run this kind of file.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r} is unknown: expected one of {', '.join(RUNTIMES)}", parameter="runtime")
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such model file; give another one, or make one with: rrid-edge export CHECKPOINT",
            parameter="model",
        )
    if kind_of(path) is Kind.IR:
        return _for_ir(path, runtime)
    own = engine_runtime(path)
    if runtime != "auto" and own != (runtime if runtime in _ENGINE_FILES else None):
        wanted = _ENGINE_FILES.get(runtime, "an ONNX file")
        raise UsageError(
            f"{printable(path)}: runtime {runtime} needs {wanted}; choose the runtime auto, or another file",
            parameter="runtime",
        )
    if runtime != "auto":
        return RuntimeChoice(runtime, asked=True)
    if own is not None:
        return RuntimeChoice(own, asked=False)
    chosen, reasons = _best_for_onnx(precision)
    return RuntimeChoice(chosen, asked=False, passed_over=tuple(reasons))


def _for_ir(path: Path, runtime: str) -> RuntimeChoice:
    """The runtime for an OpenVINO IR, which only OpenVINO runs."""
    if runtime not in ("auto", *_OPENVINO_DEVICES):
        raise UsageError(
            f"{printable(path)}: an OpenVINO IR runs on OpenVINO only, not on {runtime}; choose the runtime auto, or "
            "another file",
            parameter="runtime",
        )
    return RuntimeChoice("openvino" if runtime == "auto" else runtime, asked=runtime != "auto")


def _best_for_onnx(precision: str | None) -> tuple[str, list[str]]:
    reasons = ["tensorrt: this is no engine file"]
    if (why_not := _why_not_cuda()) is None and precision is None:
        return "onnxruntime-cuda", reasons
    reasons.append(f"onnxruntime-cuda: {why_not or 'cannot be told a precision'}")
    if platform.machine() not in ("x86_64", "AMD64"):
        reasons.append(f"openvino: {platform.machine()} is no x86 CPU")
    elif importlib.util.find_spec("openvino") is None:
        reasons.append("openvino: not installed (pip install 'rrid-edge[cpu]')")
    else:
        return "openvino", reasons
    return "onnxruntime", reasons


def _why_not_cuda() -> str | None:
    """Why ONNX Runtime cannot use a GPU here, or None if it can."""
    folder = onnxruntime_folder()
    if folder is None:
        return "onnxruntime-gpu is not installed"
    # Finding the provider's library is free; importing onnxruntime takes 0.1 s.
    if not any((folder / "capi").glob("*onnxruntime_providers_cuda*")):
        return "the installed onnxruntime has no CUDA provider"
    gpu = this_gpu()
    if not gpu.present:
        return "no NVIDIA driver"
    built = onnxruntime_cuda()
    if reason := gpu.why_not(built[0] if built else None):
        return f"the installed onnxruntime-gpu {reason}"
    return None


def _open(path: Path, runtime: str, *, precision: str | None, threads: int, max_batch: int) -> Engine:
    if runtime in _OPENVINO_DEVICES:
        from rrid_edge.engines.compiled_cache import CompiledCache, cache_folder
        from rrid_edge.engines.openvino.engine import OpenVinoEngine

        device, folder = _OPENVINO_DEVICES[runtime], cache_folder()
        cache = CompiledCache(folder) if folder is not None else None
        return OpenVinoEngine(
            path, precision=precision, threads=threads, max_batch=max_batch, device=device, cache=cache
        )
    if precision is not None:
        raise UsageError(
            f"precision {precision} works with the runtime openvino only; for {runtime} export the model in that "
            "precision",
            parameter=("precision", "runtime"),
        )
    if runtime == "onnxruntime":
        from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine

        return OnnxRuntimeEngine(path, threads=threads, max_batch=max_batch)
    if runtime == "onnxruntime-cuda":
        from rrid_edge.engines.onnxruntime.cuda import OnnxRuntimeCudaEngine

        return OnnxRuntimeCudaEngine(path, max_batch=max_batch)
    from rrid_edge.engines.tensorrt.engine import TensorRTEngine

    return TensorRTEngine(path)
