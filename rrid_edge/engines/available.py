"""Which runtimes of this machine can run a model file. None of them is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from rrid_edge.machine.advice import extra_advice, gpu_advice, rtx_advice, runtime_advice
from rrid_edge.machine.facts import onnxruntime_cuda, onnxruntime_folder
from rrid_edge.machine.gpu import this_gpu
from rrid_edge.machine.rtx import rtx_machine
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import Kind, kind_of
from rrid_edge.model.rtx_target import RTX_RUNTIME


def why_not_cuda() -> str | None:
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


def runtimes_for(path: Path) -> tuple[str, ...]:
    """The installed runtimes that run a kind of model file. Whether an engine fits this GPU, opening it says.

    Args:
        path: a model file, see :func:`rrid_edge.model.names.is_model`.

    Raises:
        ModelFileError: the sidecar of an engine for RTX is damaged.
    """
    kind = kind_of(path)
    if kind is Kind.ENGINE:
        return ("tensorrt",) if _is_installed("tensorrt") and this_gpu().present else ()
    if kind is Kind.RTX_ENGINE:
        machine = rtx_machine()
        return (RTX_RUNTIME,) if machine is not None and EngineSidecar.read(path).serves_rtx(machine) else ()
    openvino = ("openvino",) if _is_installed("openvino") else ()
    if kind is Kind.IR:
        return openvino
    cuda = ("onnxruntime-cuda",) if why_not_cuda() is None else ()
    return (*cuda, *openvino, *(("onnxruntime",) if _is_installed("onnxruntime") else ()))


def advice_for(path: Path) -> str:
    """How to get a runtime for a kind of model file, as the end of a message."""
    kind = kind_of(path)
    if kind is Kind.ENGINE:
        return gpu_advice()
    if kind is Kind.RTX_ENGINE:
        return rtx_advice()
    return extra_advice("openvino") if kind is Kind.IR else runtime_advice()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec
        return False
