"""What ``doctor`` examines: the facts of a machine, read once. Tests give it the facts of other machines."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.machine.cgroups import SYSTEM
from rrid_edge.machine.gpu import CudaVersion, Gpu, this_gpu
from rrid_edge.machine.rtx import rtx_machine

CUDA_MAJORS = (12, 13)
_TENSORRT_PARTS = ("", "-bindings", "-libs")
TENSORRT_PACKAGES = tuple(
    f"{kind}-cu{major}{part}"
    for kind in ("tensorrt", "tensorrt-rtx")
    for major in CUDA_MAJORS
    for part in _TENSORRT_PARTS
)
"""TensorRT on PyPI. The package ``tensorrt`` itself is JetPack's, or brings one of these."""
_EXAMINED = (
    *("numpy", "torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "openvino", "cuda-bindings", "tensorrt"),
    *TENSORRT_PACKAGES,
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cublas-cu12", "nvidia-cublas"),
)
_LIBRARIES = ("libcudnn.so.9", "libcublasLt.so.12", "libcublasLt.so.13")
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/local/cuda/lib64")
# ONNX Runtime's GPU wheels on PyPI, by the first version built for each CUDA (read in the wheels).
_ONNXRUNTIME_CUDAS = (((1, 27), 13), ((1, 19), 12), ((0,), 11))


@dataclass(frozen=True)
class MachineFacts:
    """The facts of a machine that decide what can run on it.

    Attributes:
        gpu: the NVIDIA platform.
        python: the Python version.
        packages: versions of the installed packages, by their names on PyPI.
        requirements: what some of these packages require (``Requires-Dist``).
        modules: those of ``tensorrt`` and ``onnxruntime`` that can be imported, from PyPI or not.
        onnxruntime_cuda: the CUDA that ``onnxruntime-gpu`` names in its own files; None if it names none.
        libraries: those of cuDNN and cuBLAS that lie in the system's folders.
        rtx_capability: compute capability of the GPU, read where TensorRT for RTX is installed; else None.
        training_sign: what shows that somebody trains here; empty if nothing does.
    """

    gpu: Gpu
    python: tuple[int, ...] = (3, 12)
    packages: Mapping[str, str] = field(default_factory=dict)
    requirements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    onnxruntime_cuda: CudaVersion | None = None
    libraries: frozenset[str] = frozenset()
    rtx_capability: str | None = None
    training_sign: str = ""

    def tensorrt_majors(self, kind: str = "tensorrt") -> tuple[int, ...]:
        """Major CUDA versions of the TensorRT packages from PyPI; ``kind`` may be ``tensorrt-rtx``."""
        return tuple(major for major in CUDA_MAJORS if self.tensorrt_packages(major, kind))

    def tensorrt_packages(self, major: int, kind: str = "tensorrt") -> tuple[str, ...]:
        """Names of the installed TensorRT packages from PyPI for one major CUDA version."""
        names = (f"{kind}-cu{major}{part}" for part in _TENSORRT_PARTS)
        return tuple(name for name in names if name in self.packages)

    def onnxruntime_major(self) -> int | None:
        """Major CUDA version of ``onnxruntime-gpu``; None if it is not installed."""
        version = self.packages.get("onnxruntime-gpu")
        if version is None:
            return None
        if self.onnxruntime_cuda is not None:
            return self.onnxruntime_cuda[0]
        return next((cuda for first, cuda in _ONNXRUNTIME_CUDAS if numbers(version) >= first), None)

    def torch_major(self) -> int | None:
        """Major CUDA version of ``torch``; None if it is not installed, built for the CPU, or does not say."""
        if found := re.search(r"\+cu([0-9]{2})", self.packages.get("torch", "")):
            return int(found[1])
        for line in self.requirements.get("torch", ()):
            if found := re.match(
                r"nvidia-cuda-runtime-cu([0-9]+)|(?:cuda-toolkit|nvidia-cuda-runtime)\b.*?==([0-9]+)", line
            ):
                return int(found[1] or found[2])
        return None


def read_facts(more: Iterable[str] = (), training_sign: str = "") -> MachineFacts:
    """The facts of this machine. No runtime is imported; only TensorRT for RTX has CUDA asked for the GPU.

    Args:
        more: further packages whose versions are read.
        training_sign: as in :class:`MachineFacts`.
    """
    names = dict.fromkeys((*_EXAMINED, *more))
    packages = {name: version for name in names if (version := installed_version(name))}
    gpu = this_gpu()
    rtx = rtx_machine() if gpu.present and any(name.startswith("tensorrt-rtx") for name in packages) else None
    return MachineFacts(
        gpu=gpu,
        python=tuple(map(int, platform.python_version_tuple()[:2])),
        packages=packages,
        requirements={name: _requirements(name) for name in ("torch", "torchvision") if name in packages},
        modules=frozenset(name for name in ("tensorrt", "onnxruntime") if _is_importable(name)),
        onnxruntime_cuda=onnxruntime_cuda(),
        libraries=find_libraries(),
        rtx_capability=None if rtx is None else rtx.compute_capability,
        training_sign=training_sign,
    )


def find_libraries(system: Path = SYSTEM) -> frozenset[str]:
    """Which of cuDNN's and cuBLAS's libraries lie in the folders where a program looks for them."""
    listed = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    folders = [*map(Path, listed), Path(sys.prefix) / "lib", *(system / name for name in _LIBRARY_FOLDERS)]
    return frozenset(name for name in _LIBRARIES if any((folder / name).exists() for folder in folders))


def onnxruntime_cuda() -> CudaVersion | None:
    """The CUDA for which the installed ONNX Runtime was built, read from its files; None if it names none."""
    if (folder := onnxruntime_folder()) is None:
        return None
    try:
        text = (folder / "capi" / "build_and_package_info.py").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^cuda_version = '([0-9]+)\.([0-9]+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def onnxruntime_folder() -> Path | None:
    """Where the package ``onnxruntime`` lies; None if it is not installed. It is not imported, which takes 0.1 s."""
    try:
        found = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):  # ValueError: a module in sys.modules without a spec
        return None
    return Path(found.origin).parent if found is not None and found.origin else None


def installed_version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed, or its metadata names no version."""
    import importlib.metadata  # 10 ms, which a start that asks for no version saves

    try:
        return importlib.metadata.version(package) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without a version, Python 3.12
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version; empty if there are none."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _requirements(package: str) -> tuple[str, ...]:
    import importlib.metadata

    try:
        return tuple(importlib.metadata.requires(package) or ())
    except importlib.metadata.PackageNotFoundError:
        return ()


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
