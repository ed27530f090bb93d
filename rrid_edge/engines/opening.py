"""``open_engine``: open a model file on the best runtime of this machine."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import replace
from pathlib import Path

from rrid_edge.engines.available import why_not_cuda
from rrid_edge.engines.base import Engine
from rrid_edge.engines.runtime_choice import RuntimeChoice
from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.machine.advice import best_cpu_runtime, runtime_advice
from rrid_edge.machine.processor import computes_bf16
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.rtx_target import RTX_RUNTIME
from rrid_edge.model.spec import HOW_MADE
from rrid_edge.progress import step

RUNTIMES = (
    *("auto", "tensorrt", RTX_RUNTIME, "onnxruntime-cuda"),
    *("openvino", "openvino-gpu", "openvino-npu", "onnxruntime"),
)
FEW_IMAGES = 8
"""Fewer images than this in a process gain less than OpenVINO's faster opening from its cache saves."""
_ENGINE_RUNTIMES = {Kind.ENGINE: "tensorrt", Kind.RTX_ENGINE: RTX_RUNTIME}
_ENGINE_FILES = {"tensorrt": "an engine file (.engine)", RTX_RUNTIME: "an engine file for RTX (.rtx)"}
_OPENVINO_DEVICES = {"openvino": "CPU", "openvino-gpu": "GPU", "openvino-npu": "NPU"}


@step("loading the model")
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
            Runtime CUDA with an NVIDIA GPU; OpenVINO on an x86 CPU, ONNX Runtime on another; the other one of these
            two. Where OpenVINO would compute in float32, it takes the faster of these two, if
            :func:`rrid_edge.engines.measuring.measure_runtimes` has measured them. It never takes Intel's integrated
            graphics or NPU.
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
    chosen = choose_runtime(path, runtime, precision=precision, threads=threads).runtime
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


def import_runtime(runtime: str) -> None:
    """Import the package of a CPU's runtime, which holds the interpreter. TensorRT is left to :func:`open_engine`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if runtime in _OPENVINO_DEVICES:
        from rrid_edge.engines.openvino.engine import import_openvino

        import_openvino()
    elif runtime == "onnxruntime":
        from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime

        import_onnxruntime()


def choose_runtime(
    path: str | Path,
    runtime: str = "auto",
    *,
    precision: str | None = None,
    threads: int = 0,
    images: int | None = None,
) -> RuntimeChoice:
    """Choose the runtime as :func:`open_engine` does, without loading the model.

    Args:
        path: the model file.
        runtime: as in :func:`open_engine`.
        precision: as in :func:`open_engine`.
        threads: as in :func:`open_engine`.
        images: how many images this process will run, if it is known. For a few, the runtime that opens faster is the
            faster one.

    Raises:
        UsageError: no such file, an unknown runtime, or one that cannot run this kind of file.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r} is unknown: expected one of {', '.join(RUNTIMES)}", parameter="runtime")
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: {why_no_file(path, 'model file')}; give another one, or make one with: {HOW_MADE}",
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
    choice = RuntimeChoice(chosen, asked=False, passed_over=tuple(reasons))
    return _by_speed(path, choice, threads, images) if chosen == "openvino" and precision is None else choice


def runtime_of_onnx_files() -> RuntimeChoice | None:
    """The runtime that ``auto`` takes for ONNX files here, before speeds of a file are asked for; None if none runs."""
    chosen, reasons = _best_for_onnx(None)
    if importlib.util.find_spec(chosen.removesuffix("-cuda")) is None:
        return None
    return RuntimeChoice(chosen, asked=False, passed_over=tuple(reasons))


def _by_speed(path: Path, choice: RuntimeChoice, threads: int, images: int | None) -> RuntimeChoice:
    """The choice after a look at recorded speeds, where both runtimes would compute in float32."""
    if images is not None and images < FEW_IMAGES:
        return choice
    if computes_bf16() or importlib.util.find_spec("onnxruntime") is None:
        return choice
    from rrid_edge.engines.speeds import SpeedRecord

    try:
        record = SpeedRecord.of(path, threads) if read_spec(path).precision == "fp32" else None
    except RridEdgeError:  # opening the file says what is wrong with it
        return choice
    if record is None:
        return choice
    speeds = record.read()
    if speeds is None:
        return replace(choice, is_unmeasured=record.can_be_kept)
    return replace(choice, runtime=speeds.fastest, speeds=speeds)


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
    if (why_not := why_not_cuda()) is None and precision is None:
        return "onnxruntime-cuda", reasons
    reasons.append(f"onnxruntime-cuda: {why_not or 'cannot be told a precision'}")
    if precision is not None:  # only OpenVINO can be told one
        return "openvino", reasons
    return _best_on_cpu(reasons), reasons


def _best_on_cpu(reasons: list[str]) -> str:
    """The better CPU runtime of those that are installed. Reasons against the best one are added."""
    best = best_cpu_runtime()
    other = "onnxruntime" if best == "openvino" else "openvino"
    if importlib.util.find_spec(best) is not None:
        reasons += [f"openvino: {platform.machine()} is no x86 CPU"] if other == "openvino" else []
        return best
    reasons.append(f"{best}: not installed ({runtime_advice()})")
    # Without either, opening the model names the best one.
    return other if importlib.util.find_spec(other) is not None else best


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
