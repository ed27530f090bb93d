"""What to install on this machine for an NVIDIA GPU, or for a missing package. Messages and ``doctor`` share it.

On a Jetson, TensorRT and CUDA come with JetPack. No text here sends a Jetson to packages of servers or to PyTorch.
"""

from __future__ import annotations

import platform
import sys

from rrid_edge.errors import MissingDependencyError, unforeseen
from rrid_edge.machine.gpu import Gpu, is_jetson, this_gpu

WORKSHOP = "a Jetson is no place for it; train and export on another machine, then copy the ONNX file here"
"""What a Jetson's user is told instead of a command that installs PyTorch."""
VENV_COMMAND = "python3 -m venv --system-site-packages .venv"
_WORKSHOP_EXTRAS = ("train", "export")
_WORKSHOP_PACKAGES = ("torch", "torchvision")
_GPU_EXTRA = "gpu"
_X86 = ("x86_64", "AMD64")
# ONNX Runtime has no wheel of its CUDA 13 build for older Pythons. A driver for CUDA 13 serves CUDA 12 too.
_PYTHON_OF_CUDA_13 = (3, 11)


def gpu_extra(gpu: Gpu, python: tuple[int, ...] | None = None) -> str:
    """The extra of this package for the GPU of an x86-64 machine: ``gpu-cu12`` or ``gpu-cu13``.

    Args:
        gpu: the machine.
        python: the Python version; None is the running one.
    """
    python = tuple(sys.version_info[:2]) if python is None else python
    return "gpu-cu13" if (gpu.cuda_major or 12) >= 13 and python >= _PYTHON_OF_CUDA_13 else "gpu-cu12"


def bindings(gpu: Gpu) -> str:
    """The requirement of ``cuda-bindings`` that fits a driver, quoted for a shell."""
    return "'cuda-bindings>=13,<14'" if (gpu.cuda_major or 12) >= 13 else "'cuda-bindings>=12.9,<13'"


def gpu_advice(gpu: Gpu | None = None, python: tuple[int, ...] | None = None) -> str:
    """How to install TensorRT, ONNX Runtime CUDA and CUDA's bindings here, as the end of a message.

    Args:
        gpu: the machine; None is this one.
        python: the Python version; None is the running one.
    """
    gpu = this_gpu() if gpu is None else gpu
    if gpu.kind == "jetson" or not gpu.is_x86:
        return jetson_advice(gpu)
    if gpu.cuda_major is None:
        return (
            "pip install 'rrid-edge[gpu-cu12]', or 'rrid-edge[gpu-cu13]' if nvidia-smi prints CUDA Version 13 or later"
        )
    return f"pip install 'rrid-edge[{gpu_extra(gpu, python)}]'"


def rtx_advice(gpu: Gpu | None = None) -> str:
    """How to install TensorRT for RTX here, as the end of a message. Without a driver it still builds engines."""
    gpu = this_gpu() if gpu is None else gpu
    if gpu.kind == "jetson" or not gpu.is_x86:
        return f"it is made for x86-64 PCs; {jetson_advice(gpu)}"
    if gpu.cuda_major is None:
        return "pip install 'rrid-edge[gpu-rtx-cu12]', or 'rrid-edge[gpu-rtx-cu13]' for a driver of CUDA 13"
    return f"pip install 'rrid-edge[gpu-rtx-cu{'13' if gpu.cuda_major >= 13 else '12'}]'"


def jetson_advice(gpu: Gpu) -> str:
    """The sentence for Jetsons, as the end of a message. Other ARM machines get it too: no extra serves them."""
    other = "" if gpu.cuda_major else " (JetPack 7: 'cuda-bindings>=13,<14')"
    return (
        "on a Jetson TensorRT comes with JetPack (sudo apt install nvidia-jetpack; never pip install it there): use a "
        f"venv made with --system-site-packages, and pip install {bindings(gpu)}{other} in it"
    )


def driver_check(gpu: Gpu) -> str:
    """Where to look if the driver does not answer, as a part of a message."""
    if gpu.kind == "jetson":
        return "check that JetPack is installed, and start a container with: docker run --runtime nvidia"
    if gpu.kind == "wsl2":
        return "check with nvidia-smi, and set LD_LIBRARY_PATH=/usr/lib/wsl/lib"
    if gpu.present:
        return "check with nvidia-smi, and start a container with: docker run --gpus all"
    return "check with nvidia-smi"


def driver_update(gpu: Gpu) -> str:
    """How to get a newer driver, as the end of a message."""
    if gpu.kind == "jetson":
        return "flash a newer JetPack (6 or later)"
    if gpu.kind == "wsl2":
        return "install a newer NVIDIA driver in Windows, not in WSL2"
    return "install a newer NVIDIA driver (525 or later for CUDA 12, 580 or later for CUDA 13)"


def missing_package(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for a missing ``package``, with what to do on this machine.

    Args:
        package: the package.
        extra: the extra of this package that installs it; ``gpu`` is the one that fits this machine.
        purpose: what needs it, for example ``training``.
    """
    lacks = f"{purpose} needs the package {package!r}, which is not installed"
    if extra == _GPU_EXTRA:
        return MissingDependencyError(f"{lacks}: {gpu_advice()}")
    return MissingDependencyError(f"{lacks}: {extra_advice(extra)}")


def import_failure(error: ImportError, package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for a package that could not be imported: it is not installed, or something that it needs is missing.

    Args:
        error: what the import raised.
        package: the package.
        extra: the extra of this package that installs it; ``gpu`` is the one that fits this machine.
        purpose: what needs it.
    """
    module = package.replace("-gpu", "").split("-")[0]
    if isinstance(error, ModuleNotFoundError) and error.name in (module, f"{module}.bindings"):
        return missing_package(package, extra, purpose)
    advice = gpu_advice() if extra == _GPU_EXTRA else extra_advice(extra)
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is installed and cannot be imported ({unforeseen(error)}): "
        f"{advice}"
    )


def extra_advice(extra: str) -> str:
    """How to get what an extra of this package installs, as the end of a message."""
    if extra in _WORKSHOP_EXTRAS and is_jetson():
        return WORKSHOP
    return f"pip install 'rrid-edge[{extra}]'"


def runtime_advice(architecture: str | None = None) -> str:
    """How to install the CPU runtime that is best here, as the end of a message.

    Args:
        architecture: of the processor; None is this machine's.
    """
    return extra_advice(best_cpu_runtime(architecture))


def best_cpu_runtime(architecture: str | None = None) -> str:
    """The better CPU runtime of a kind of processor; it is the name of an extra too.

    Args:
        architecture: of the processor; None is this machine's.
    """
    is_x86 = (architecture or platform.machine()) in _X86
    return "openvino" if is_x86 else "onnxruntime"


def package_advice(package: str) -> str:
    """How to get a package by its own name, as the end of a message."""
    if package.split(".")[0] in _WORKSHOP_PACKAGES and is_jetson():
        return WORKSHOP
    return f"pip install {package}"
