"""Examine this machine: processor, drivers, runtimes and packages, with a command to fix each problem.

Nothing is installed or changed.
"""

from __future__ import annotations

import platform
import re

from rrid_edge.machine.advice import extra_advice, gpu_advice
from rrid_edge.machine.facts import MachineFacts, numbers, read_facts
from rrid_edge.machine.gpu_findings import Finding, gpu_findings, onnxruntime_finding
from rrid_edge.machine.memory import GIB, machine_bytes, memory_limit_bytes
from rrid_edge.machine.processor import core_count, cpu_flags, processor_name

__all__ = ["Finding", "examine"]


def examine(facts: MachineFacts | None = None) -> list[Finding]:
    """All findings, from the processor to the packages. Imports no runtime, so a broken one cannot make this fail.

    Args:
        facts: of the machine to examine; None is this one. Processor, memory and Python are always this machine's.
    """
    facts = read_facts() if facts is None else facts
    return [
        Finding("python", "ok" if _python_fits() else "problem", platform.python_version(), _python_remedy()),
        _processor(),
        _memory(),
        *gpu_findings(facts),
        *_runtimes(facts),
        *_training(facts),
        *_numpy(facts),
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


def _runtimes(facts: MachineFacts) -> list[Finding]:
    on_cpu, is_x86 = facts.packages.get("onnxruntime"), facts.gpu.is_x86
    with_gpu = facts.packages.get("onnxruntime-gpu")
    install = extra_advice("onnxruntime") if is_x86 else "pip install onnxruntime"
    findings = []
    if on_cpu and with_gpu:
        wanted = gpu_advice(facts.gpu, facts.python) if is_x86 and facts.gpu.kind != "jetson" else install
        findings.append(
            Finding(
                "onnxruntime",
                "problem",
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
                f"pip uninstall -y onnxruntime onnxruntime-gpu && {wanted}",
            )
        )
    elif with_gpu:
        findings.append(onnxruntime_finding(facts))
    elif on_cpu:
        findings.append(Finding("onnxruntime", "ok", f"{on_cpu} (CPU build)"))
    else:
        findings.append(Finding("onnxruntime", "missing", "not installed", install))
    openvino = facts.packages.get("openvino")
    if openvino:
        findings.append(Finding("openvino", "ok", openvino))
    elif is_x86:
        findings.append(Finding("openvino", "missing", "not installed", extra_advice("openvino")))
    return findings


def _training(facts: MachineFacts) -> list[Finding]:
    torch, torchvision = facts.packages.get("torch"), facts.packages.get("torchvision")
    if facts.gpu.kind == "jetson":  # nothing needs it there, and PyPI's build brings CUDA of servers
        return [Finding("torch", "note", f"{torch}: nothing here needs it on a Jetson")] if torch else []
    install = extra_advice("train")
    if not torch:
        return [Finding("torch", "missing", "not installed: training and export need it", install)]
    findings = [_torch(facts, torch)]
    if not torchvision:
        findings.append(Finding("torchvision", "missing", "not installed", install))
        return findings
    wanted = _required_torch(facts)
    if wanted and wanted != torch.split("+")[0]:
        detail = f"{torchvision} was built for torch {wanted}, but {torch} is installed"
        findings.append(
            Finding("torchvision", "problem", detail, f"pip install torch=={wanted} torchvision=={torchvision}")
        )
    else:
        findings.append(Finding("torchvision", "ok", torchvision))
    return findings


def _torch(facts: MachineFacts, torch: str) -> Finding:
    if facts.gpu.present and (reason := facts.gpu.why_not(facts.torch_major())):
        remedy = f"update the NVIDIA driver, or install a torch built for CUDA {facts.gpu.cuda_major} (see pytorch.org)"
        return Finding("torch", "problem", f"torch {torch} {reason}: it computes on the CPU", remedy)
    return Finding("torch", "ok", torch)


def _required_torch(facts: MachineFacts) -> str | None:
    """The torch version that the installed torchvision requires."""
    for line in facts.requirements.get("torchvision", ()):
        if found := re.match(r"torch\s*\(?==\s*([\w.]+)", line):
            return found[1]
    return None


def _numpy(facts: MachineFacts) -> list[Finding]:
    version, torch = facts.packages.get("numpy"), facts.packages.get("torch")
    if version and torch and numbers(version) >= (2,) and numbers(torch) < (2, 3):
        detail = f"{version} does not work with torch {torch}, which was built for NumPy 1"
        return [Finding("numpy", "problem", detail, "pip install 'numpy<2'")]
    return [Finding("numpy", "ok", version or "?")]
