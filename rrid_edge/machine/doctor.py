"""Examine this machine: processor, drivers, runtimes and packages, with a command to fix each problem.

Nothing is installed or changed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.machine.memory import GIB, machine_bytes, memory_limit_bytes
from rrid_edge.machine.processor import core_count, cpu_flags, processor_name


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


def examine() -> list[Finding]:
    """All findings, from the processor to the packages. Imports no runtime, so a broken one cannot make this fail."""
    return [
        Finding("python", "ok" if _python_fits() else "problem", platform.python_version(), _python_remedy()),
        _processor(),
        _memory(),
        *_jetpack(),
        *_gpu(),
        *_runtimes(),
        *_training(),
        *_numpy(),
    ]


def _python_fits() -> bool:
    return tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 10)


def _python_remedy() -> str:
    return "" if _python_fits() else "install Python 3.10 or newer"


def _processor() -> Finding:
    flags = cpu_flags()
    instruction_sets = [
        name
        for flag, name in (("amx_bf16", "AMX bf16"), ("avx512_bf16", "AVX-512 bf16"), ("avx2", "AVX2"))
        if flag in flags
    ]
    detail = f"{processor_name()}, {core_count()}, {instruction_sets[0] if instruction_sets else 'no bf16'}"
    return Finding("processor", "ok", detail)


def _memory() -> Finding:
    limit, present = memory_limit_bytes() / GIB, machine_bytes() / GIB
    share = f"{limit:.1f} of {present:.1f} GiB (limit of a cgroup or of the address space)"
    return Finding("memory", "ok", share if limit < present else f"{present:.1f} GiB")


def _jetpack() -> list[Finding]:
    """On a Jetson, TensorRT is a system package that PyPI's package must not replace."""
    release = Path("/etc/nv_tegra_release")
    if not release.exists():
        return []
    findings = [Finding("jetpack", "ok", _first_line(release).strip("# ") or "?")]
    if importlib.util.find_spec("tensorrt") is None:
        findings.append(
            Finding(
                "tensorrt",
                "problem",
                "JetPack's own TensorRT is not visible from this environment (never pip install tensorrt over it)",
                "python3 -m venv --system-site-packages .venv",
            )
        )
    return findings


def _gpu() -> list[Finding]:
    driver = Path("/proc/driver/nvidia/version")
    tegra = Path("/dev/nvhost-gpu").exists() or Path("/dev/nvgpu").exists()
    if not driver.exists() and not tegra:
        return [Finding("gpu", "note", "no NVIDIA driver: CPU runtimes are used")]
    findings = [Finding("gpu", "ok", re.sub(r"\s+", " ", _first_line(driver)) or "Tegra")]
    remedy = "pip install 'rrid-edge[gpu]'"
    for package, name in (("cuda-bindings", "cuda"), ("tensorrt", "tensorrt")):
        version = _version(package)
        if version:
            findings.append(Finding(name, "ok", f"{package} {version}"))
        elif not Path("/etc/nv_tegra_release").exists():
            findings.append(Finding(name, "missing", f"{package} is not installed", remedy))
    return findings


def _first_line(path: Path) -> str:
    """The first line of a file of the system; empty if it cannot be read."""
    try:
        return next(iter(path.read_text(encoding="utf-8", errors="replace").splitlines()), "")
    except OSError:
        return ""


def _runtimes() -> list[Finding]:
    cpu, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    findings = []
    if cpu and gpu:
        findings.append(
            Finding(
                "onnxruntime",
                "problem",
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rrid-edge[gpu]'",
            )
        )
    elif cpu or gpu:
        findings.append(Finding("onnxruntime", "ok", f"{cpu or gpu} ({'CPU' if cpu else 'CUDA'} build)"))
    else:
        findings.append(Finding("onnxruntime", "missing", "not installed", "pip install 'rrid-edge[cpu]'"))
    openvino = _version("openvino")
    if openvino:
        findings.append(Finding("openvino", "ok", openvino))
    elif platform.machine() in ("x86_64", "AMD64"):
        findings.append(Finding("openvino", "missing", "not installed", "pip install 'rrid-edge[cpu]'"))
    return findings


def _training() -> list[Finding]:
    torch, torchvision = _version("torch"), _version("torchvision")
    if not torch:
        return [
            Finding("torch", "missing", "not installed: training and export need it", "pip install 'rrid-edge[train]'")
        ]
    findings = [Finding("torch", "ok", torch)]
    if not torchvision:
        findings.append(Finding("torchvision", "missing", "not installed", "pip install 'rrid-edge[train]'"))
        return findings
    wanted = _required_torch()
    if wanted and wanted != torch.split("+")[0]:
        detail = f"{torchvision} was built for torch {wanted}, but {torch} is installed"
        findings.append(
            Finding("torchvision", "problem", detail, f"pip install torch=={wanted} torchvision=={torchvision}")
        )
    else:
        findings.append(Finding("torchvision", "ok", torchvision))
    return findings


def _required_torch() -> str | None:
    """The torch version that the installed torchvision requires."""
    for line in importlib.metadata.requires("torchvision") or []:
        if found := re.match(r"torch\s*\(?==\s*([\w.]+)", line):
            return found[1]
    return None


def _numpy() -> list[Finding]:
    version = _version("numpy")
    torch = _version("torch")
    if version and torch and _numbers(version) >= (2,) and _numbers(torch) < (2, 3):
        detail = f"{version} does not work with torch {torch}, which was built for NumPy 1"
        return [Finding("numpy", "problem", detail, "pip install 'numpy<2'")]
    return [Finding("numpy", "ok", version or "?")]


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version; empty if there are none."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed, or its metadata names no version."""
    try:
        return importlib.metadata.version(package) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: metadata without a version, Python 3.12
        return None
