"""What this machine has to run engines of TensorRT for RTX."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

RTX_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")
"""Import names of TensorRT for RTX. The second one is there where only its libraries and bindings are installed."""
_BUILT_FOR = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that 1.7.1.116 builds for. On an H200 (9.0) it said that it does not support that GPU."""
_PACKAGES = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx")


@dataclass(frozen=True)
class RtxMachine:
    """A machine with TensorRT for RTX and a GPU.

    Attributes:
        version: version of TensorRT for RTX; None if its package does not tell.
        compute_capability: compute capability of the GPU, for example ``8.9``.
    """

    version: str | None
    compute_capability: str


def rtx_machine() -> RtxMachine | None:
    """What this machine has; None without TensorRT for RTX, or without a GPU that answers.

    TensorRT is not imported, and the GPU is only asked for its properties.
    """
    if not any(importlib.util.find_spec(name) is not None for name in RTX_MODULES):
        return None
    capability = _compute_capability()
    return RtxMachine(_version(), capability) if capability is not None else None


def why_not_rtx(compute_capability: str) -> str | None:
    """Why no engine for RTX can run on a GPU of this compute capability, as a phrase; None if one can."""
    if compute_capability in _BUILT_FOR or _numbers(compute_capability) > _numbers(_BUILT_FOR[-1]):
        return None
    return (
        f"TensorRT for RTX does not support compute capability {compute_capability}: expected {', '.join(_BUILT_FOR)} "
        "or later"
    )


def _numbers(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))


def _version() -> str | None:
    import importlib.metadata

    for package in _PACKAGES:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _compute_capability() -> str | None:
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # CUDA reads this at its start
    try:
        from cuda.bindings import runtime

        error, properties = runtime.cudaGetDeviceProperties(0)
    except (ImportError, RuntimeError):  # RuntimeError: cuda-bindings 12 without a driver
        return None
    if error != runtime.cudaError_t.cudaSuccess:
        return None
    return f"{properties.major}.{properties.minor}"
