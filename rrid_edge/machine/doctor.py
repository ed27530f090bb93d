"""Examine this machine: hardware, drivers, packages, settings and limits, with a command to fix each problem.

Nothing is installed or changed.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from rrid_edge.machine.advice import extra_advice, gpu_advice, runtime_advice
from rrid_edge.machine.extras import EXTRA_PACKAGES, extra_findings
from rrid_edge.machine.facts import MachineFacts, installed_version, numbers, read_facts
from rrid_edge.machine.gpu_findings import Finding, gpu_findings, onnxruntime_finding
from rrid_edge.machine.memory import GIB, machine_bytes, memory_limit_bytes
from rrid_edge.machine.processor import core_count, cpu_flags, processor_name
from rrid_edge.machine.surroundings import (
    Limits,
    clock_finding,
    disk_findings,
    limit_findings,
    read_disks,
    training_sign,
)
from rrid_edge.machine.variables import variable_findings

__all__ = ["Finding", "examine", "examine_surroundings"]


def examine(facts: MachineFacts | None = None, *, trains: bool = False) -> list[Finding]:
    """All findings, from the processor to the packages. Imports no runtime, so a broken one cannot make this fail.

    PyTorch is advised only where somebody trains: the facts show a sign of it, or the caller says so.

    Args:
        facts: of the machine to examine; None is this one. Processor, memory and Python are always this machine's.
        trains: this machine is to train and export, whatever the facts show.
    """
    facts = read_facts(EXTRA_PACKAGES, training_sign(Path())) if facts is None else facts
    if trains and not facts.training_sign:
        facts = replace(facts, training_sign="this machine is to train")
    return [
        Finding("python", "ok" if _python_fits() else "problem", platform.python_version(), _python_remedy()),
        _processor(),
        _memory(),
        *gpu_findings(facts),
        *_runtimes(facts),
        *_training(facts),
        *_numpy(facts),
        *extra_findings(facts),
    ]


def examine_surroundings(environment: Mapping[str, str], cache: Path | None) -> list[Finding]:
    """Findings on what surrounds the package: variables, free space, limits and the clock.

    Args:
        environment: variables and their values.
        cache: folder of compiled models; None if none are kept.
    """
    watches = installed_version("watchfiles") is not None
    return [
        *variable_findings(environment),
        *disk_findings(read_disks(cache)),
        *limit_findings(Limits.here(), watches=watches),
        clock_finding(datetime.now(timezone.utc)),
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
    on_cpu, with_gpu = facts.packages.get("onnxruntime"), facts.packages.get("onnxruntime-gpu")
    findings = []
    if on_cpu and with_gpu:
        is_server = facts.gpu.is_x86 and facts.gpu.kind != "jetson"
        wanted = gpu_advice(facts.gpu, facts.python) if is_server else "pip install onnxruntime"
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
    if openvino := facts.packages.get("openvino"):
        findings.append(Finding("openvino", "ok", openvino))
    # TensorRT has findings of its own, and a machine with PyTorch may only train.
    if not findings and "tensorrt" not in facts.modules and not facts.gpu.present:
        state = "missing" if "torch" in facts.packages else "problem"
        detail = "none is installed: no model runs here"
        findings.append(Finding("runtime", state, detail, runtime_advice(facts.gpu.architecture)))
    return findings


def _training(facts: MachineFacts) -> list[Finding]:
    torch, torchvision = facts.packages.get("torch"), facts.packages.get("torchvision")
    if facts.gpu.kind == "jetson":  # nothing needs it there, and PyPI's build brings CUDA of servers
        return [Finding("torch", "note", f"{torch}: nothing here needs it on a Jetson")] if torch else []
    install = extra_advice("train")
    if not torch and not facts.training_sign:
        return []  # nothing on a device needs it
    if not torch:
        detail = f"not installed: training and export need it, and {facts.training_sign}"
        return [Finding("torch", "missing", detail, install)]
    findings = [_torch(facts, torch)]
    if not torchvision:
        if facts.training_sign:
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
