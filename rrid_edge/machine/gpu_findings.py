"""The doctor's findings on an NVIDIA GPU: its driver, JetPack, CUDA's bindings, TensorRT and ONNX Runtime CUDA.

Each package is compared with the driver: a driver serves programs of its own major version of CUDA and of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rrid_edge.errors import MissingDependencyError
from rrid_edge.machine.advice import VENV_COMMAND, bindings, driver_update, gpu_advice, gpu_extra
from rrid_edge.machine.facts import MachineFacts, numbers, read_facts
from rrid_edge.machine.gpu import this_gpu
from rrid_edge.machine.rtx import why_not_rtx

_FIRST_CUDA = (12, 0)
_FIRST_BINDINGS = (12, 9)
_FIRST_TENSORRT = (8, 6)
_TENSORRT_GENERATIONS = (8, 10, 11)
_RTX = "tensorrt-rtx"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: what was examined.
        state: ``ok``; ``missing`` (optional, absent); ``problem`` (present, does not work); ``note``.
        detail: version or reason.
        remedy: the command that fixes it, or empty.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def gpu_findings(facts: MachineFacts) -> list[Finding]:
    """All findings on the NVIDIA platform of a machine."""
    if not facts.gpu.present:
        return [_no_driver(facts), *_builders(facts)]
    examinations: tuple[Callable[[MachineFacts], list[Finding]], ...] = (_driver, _jetpack, _bindings, _tensorrt, _rtx)
    return [finding for examine in examinations for finding in examine(facts)] + _mixture(facts)


def refuse_tensorrt_newer_than_driver() -> None:
    """Refuse the installed TensorRT if the driver is too old for its CUDA. It would crash the process.

    Raises:
        MissingDependencyError: names both versions and the command.
    """
    if not this_gpu().present:  # CUDA itself says that; reading all facts takes longer
        return
    facts = read_facts()
    majors = facts.tensorrt_majors()
    if majors and (reason := facts.gpu.why_not(min(majors))):
        finding = _tensorrt(facts)[0]
        names = facts.tensorrt_packages(min(majors))
        raise MissingDependencyError(
            f"{names[0]} {facts.packages[names[0]]} {reason}: {finding.remedy}, or {driver_update(facts.gpu)}",
            parameter="runtime",
        )


def onnxruntime_finding(facts: MachineFacts) -> Finding:
    """The finding on an installed ``onnxruntime-gpu``."""
    version, major, gpu = facts.packages["onnxruntime-gpu"], facts.onnxruntime_major(), facts.gpu
    detail = f"{version} (CUDA {major} build)" if major else f"{version} (CUDA build)"
    if not gpu.present or gpu.kind == "jetson" or major is None:
        return Finding("onnxruntime", "ok", detail)
    if reason := gpu.why_not(major):
        return Finding("onnxruntime", "problem", f"onnxruntime-gpu {version} {reason}", onnxruntime_command(12))
    if absent := _absent_libraries(facts, major):
        detail = (
            f"{detail}, but {' and '.join(absent)} were not found"
            if len(absent) > 1
            else (f"{detail}, but {absent[0]} was not found")
        )
        return Finding("onnxruntime", "missing", detail, onnxruntime_command(major))
    return Finding("onnxruntime", "ok", detail)


def onnxruntime_command(major: int) -> str:
    """The command that installs ONNX Runtime for a major version of CUDA, with cuDNN and cuBLAS."""
    # 1.25 and 1.26 are CUDA 12 builds too; 1.27 requires packages that do not exist. See the extras.
    versions = ">=1.28" if major >= 13 else ">=1.21,<1.25"
    return f"pip install 'onnxruntime-gpu[cuda,cudnn]{versions}'"


def _no_driver(facts: MachineFacts) -> Finding:
    wanted = [name for major in facts.tensorrt_majors() for name in facts.tensorrt_packages(major)[:1]]
    wanted += [name for name in ("onnxruntime-gpu",) if name in facts.packages]
    remedy = "install NVIDIA's driver (nvidia-smi then answers); in a container: docker run --gpus all ..."
    if wanted:
        return Finding("gpu", "problem", f"no NVIDIA driver, but {' and '.join(wanted)} need one", remedy)
    if facts.gpu.cuda is not None:
        served = ".".join(map(str, facts.gpu.cuda))
        detail = f"libcuda.so.1 serves CUDA {served}, but no GPU is visible (/dev/nvidia0)"
        return Finding("gpu", "missing", detail, "in a container: docker run --gpus all ...")
    if facts.gpu.has_card:
        return Finding("gpu", "missing", "an NVIDIA card without NVIDIA's driver: CPU runtimes are used", remedy)
    return Finding("gpu", "note", facts.gpu.describe())


def _driver(facts: MachineFacts) -> list[Finding]:
    gpu = facts.gpu
    if gpu.cuda is None:
        detail = f"{gpu.describe()}: libcuda.so.1 cannot be loaded"
        remedies = {
            "jetson": "in a container: docker run --runtime nvidia ...",
            "wsl2": "install NVIDIA's driver in Windows, then restart WSL2",
        }
        return [Finding("gpu", "problem", detail, remedies.get(gpu.kind, "in a container: docker run --gpus all ..."))]
    if gpu.cuda < _FIRST_CUDA:
        remedies = {"jetson": "flash JetPack 6 or later", "wsl2": "in Windows: install a newer NVIDIA driver"}
        remedy = remedies.get(gpu.kind, "install an NVIDIA driver of version 525 or later")
        return [Finding("gpu", "problem", f"{gpu.describe()}, expected CUDA 12.0 or later", remedy)]
    return [Finding("gpu", "ok", gpu.describe())]


def _jetpack(facts: MachineFacts) -> list[Finding]:
    """On a Jetson, TensorRT is a system package that PyPI's package must not replace."""
    gpu = facts.gpu
    if gpu.kind != "jetson":
        return []
    release = ".".join(map(str, gpu.jetson_linux))
    detail = f"JetPack {gpu.jetpack or 'unknown'}" + (f", Jetson Linux {release}" if release else "")
    if gpu.jetpack[:1] in ("4", "5"):
        return [Finding("jetpack", "problem", f"{detail}: expected JetPack 6 or later", "flash JetPack 6 or later")]
    return [Finding("jetpack", "ok", detail)]


def _bindings(facts: MachineFacts) -> list[Finding]:
    version, gpu = facts.packages.get("cuda-bindings"), facts.gpu
    command = f"pip install {bindings(gpu)}"
    if version is None:
        remedy = gpu_advice(gpu, facts.python) if gpu.is_x86 and gpu.kind != "jetson" else command
        return [Finding("cuda", "missing", "cuda-bindings is not installed", remedy)]
    found = numbers(version)
    if reason := gpu.why_not(found[0] if found else None):
        return [Finding("cuda", "problem", f"cuda-bindings {version} {reason}", command)]
    if found < _FIRST_BINDINGS:
        return [Finding("cuda", "problem", f"cuda-bindings {version}: expected 12.9 or later", command)]
    return [Finding("cuda", "ok", f"cuda-bindings {version}")]


def _tensorrt(facts: MachineFacts) -> list[Finding]:
    return _jetson_tensorrt(facts) if facts.gpu.kind == "jetson" else _server_tensorrt(facts)


def _jetson_tensorrt(facts: MachineFacts) -> list[Finding]:
    wrong = [name for major in facts.tensorrt_majors() for name in facts.tensorrt_packages(major)]
    if wrong:
        names = " ".join(["tensorrt", *wrong] if "tensorrt" in facts.packages else wrong)
        detail = f"{wrong[0]} {facts.packages[wrong[0]]} of PyPI hides JetPack's own TensorRT"
        return [Finding("tensorrt", "problem", detail, f"pip uninstall -y {names}")]
    if "tensorrt" not in facts.modules and "tensorrt" not in facts.packages:
        detail = "JetPack's own TensorRT is not visible from this environment (never pip install tensorrt over it)"
        return [Finding("tensorrt", "problem", detail, f"sudo apt install nvidia-jetpack && {VENV_COMMAND}")]
    version = facts.packages.get("tensorrt", "")
    return [_unknown_tensorrt(version) or Finding("tensorrt", "ok", f"tensorrt {version}".strip() + " of JetPack")]


def _server_tensorrt(facts: MachineFacts) -> list[Finding]:
    gpu, majors = facts.gpu, facts.tensorrt_majors()
    names = [name for major in majors for name in facts.tensorrt_packages(major)]
    version = facts.packages.get("tensorrt") or (facts.packages[names[0]] if names else "")
    again = " ".join((["tensorrt"] if "tensorrt" in facts.packages else []) + names)
    remedy = (
        f"pip uninstall -y {again} && {gpu_advice(gpu, facts.python)}" if gpu.is_x86 else f"pip uninstall -y {again}"
    )
    if len(majors) > 1:
        detail = (
            f"{' and '.join(f'tensorrt-cu{major}' for major in majors)} are both installed and overwrite each other"
        )
        return [Finding("tensorrt", "problem", detail, remedy)]
    if majors and (reason := gpu.why_not(majors[0])):
        return [Finding("tensorrt", "problem", f"tensorrt-cu{majors[0]} {version} {reason}", remedy)]
    if version:
        detail = f"tensorrt {version}" + (f" (CUDA {majors[0]} build)" if majors else "")
        return [_unknown_tensorrt(version) or Finding("tensorrt", "ok", detail)]
    if "tensorrt" in facts.modules:
        return [Finding("tensorrt", "ok", "tensorrt, not from PyPI")]
    if gpu.is_x86:
        return [Finding("tensorrt", "missing", "tensorrt is not installed", gpu_advice(gpu, facts.python))]
    return [Finding("tensorrt", "missing", "tensorrt is not installed: use NVIDIA's packages for ARM servers")]


def _unknown_tensorrt(version: str) -> Finding | None:
    found = numbers(version)
    if not found or (found[0] in _TENSORRT_GENERATIONS and found[:2] >= _FIRST_TENSORRT):
        return None
    return Finding("tensorrt", "problem", f"tensorrt {version}: expected 8.6, 10.x or 11.x")


def _rtx(facts: MachineFacts) -> list[Finding]:
    findings = []
    for major in facts.tensorrt_majors(_RTX):
        names = facts.tensorrt_packages(major, _RTX)
        version, reason = facts.packages[names[0]], facts.gpu.why_not(major)
        if reason:
            remedy = f"pip uninstall -y {' '.join(names)} && pip install 'rrid-edge[gpu-rtx-cu12]'"
            findings.append(Finding(_RTX, "problem", f"{names[0]} {version} {reason}", remedy))
        elif facts.rtx_capability is not None and (unfit := why_not_rtx(facts.rtx_capability)):
            findings.append(Finding(_RTX, "note", f"tensorrt-rtx {version} builds engines here, runs none: {unfit}"))
        else:
            findings.append(Finding(_RTX, "ok", f"tensorrt-rtx {version} (CUDA {major} build)"))
    return findings


def _builders(facts: MachineFacts) -> list[Finding]:
    """TensorRT for RTX on a machine without a GPU, where it still builds engines."""
    names = [facts.tensorrt_packages(major, _RTX)[0] for major in facts.tensorrt_majors(_RTX)]
    return [Finding(_RTX, "ok", f"{name} {facts.packages[name]}: builds engines here, runs none") for name in names]


def _mixture(facts: MachineFacts) -> list[Finding]:
    """Packages for several major versions that the driver all serves. They run, but twice as much is installed."""
    if not facts.gpu.is_x86 or facts.gpu.kind == "jetson":
        return []
    majors = {"TensorRT": next(iter(facts.tensorrt_majors()), None), "ONNX Runtime": facts.onnxruntime_major()}
    if "cuda-bindings" in facts.packages:
        majors["cuda-bindings"] = next(iter(numbers(facts.packages["cuda-bindings"])), None)
    known = {name: major for name, major in majors.items() if major}
    if len(set(known.values())) < 2 or any(facts.gpu.why_not(major) for major in known.values()):
        return []
    detail = ", ".join(f"{name} is for CUDA {major}" for name, major in known.items())
    remedy = f"pip install 'rrid-edge[{gpu_extra(facts.gpu, facts.python)}]' in a new venv"
    return [Finding("cuda", "note", f"{detail}: this works, one extra keeps them in step", remedy)]


def _absent_libraries(facts: MachineFacts, major: int) -> list[str]:
    packages = {
        f"cuBLAS {major}": (f"libcublasLt.so.{major}", ("nvidia-cublas", "nvidia-cublas-cu12")[major == 12]),
        "cuDNN 9": ("libcudnn.so.9", f"nvidia-cudnn-cu{major}"),
    }
    return [
        name
        for name, (library, package) in packages.items()
        if library not in facts.libraries and package not in facts.packages
    ]
