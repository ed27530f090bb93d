"""The CPU: name, instruction sets and usable cores."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path

from rrid_edge.machine.cgroups import SYSTEM, Group, groups, whole_number


def processor_name() -> str:
    """The CPU's name from the kernel, or its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_facts(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def cpu_flags() -> set[str]:
    """CPU flags of the kernel (``avx2``, ``amx_bf16``, ...); empty if the kernel does not list them."""
    found = re.search(r"^flags\s*:\s*(.+)$", _cpu_facts(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def sums_int8_in_32_bits() -> bool:
    """Whether the CPU adds products of int8 without loss: not on x86 without VNNI, where pairs saturate in 16 bits."""
    return platform.machine().lower() not in ("x86_64", "amd64") or bool({"avx512_vnni", "avx_vnni"} & cpu_flags())


def computes_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 (AMX, AVX-512 bf16). OpenVINO then computes float32 models in it."""
    return bool({"amx_bf16", "avx512_bf16"} & cpu_flags())


def processor_identity() -> str:
    """Architecture, name and flags. Code compiled for one identity must not run on another."""
    return f"{platform.machine()} {processor_name()} {' '.join(sorted(cpu_flags()))}"


def _cpu_facts() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def core_count(system: Path = SYSTEM) -> str:
    """How many cores this process may use, in words; says also how many the machine has where those are more."""
    present, quota = os.cpu_count() or 1, core_quota(system)
    if quota is not None and quota < _allowed_cores():
        return f"{quota:g} of {present} cores (cgroup quota)"
    usable = _allowed_cores()
    if usable < present:
        return f"{usable} of {present} cores usable"
    return f"{usable} core{'s' if usable > 1 else ''}"


def usable_cores(system: Path = SYSTEM) -> int:
    """Number of cores that this process may use, at least 1: fewer than the machine has in a container or ``taskset``.

    A part of a core counts as one: a quota of 1.5 cores is used up by two threads only.

    Args:
        system: folder in which ``proc`` and ``sys`` lie.
    """
    quota = core_quota(system)
    allowed = _allowed_cores()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def core_quota(system: Path = SYSTEM) -> float | None:
    """The least quota of the control groups around this process, in cores; None without one."""
    quotas = [quota for group in groups("cpu", system) if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def threads_for(asked: int) -> int:
    """CPU threads to ask a runtime for.

    Args:
        asked: by the user; 0 for the best number.

    Returns:
        ``asked``, or the usable cores where this process may use only a part of the machine; runtimes would start as
        many threads as the machine has cores. Else 0: the runtime chooses.
    """
    usable = usable_cores()
    return asked or (usable if usable < (os.cpu_count() or 1) else 0)


def threads_within(asked: int, running: int) -> int:
    """CPU threads to set in a runtime that has already started some.

    Args:
        asked: by the user; 0 for the best number.
        running: threads that the runtime uses now.

    Returns:
        ``asked``, or the usable cores where more threads are running. Else 0: nothing is to be set.
    """
    usable = usable_cores()
    return asked or (usable if running > usable else 0)


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _quota(group: Group) -> float | None:
    """Time on all cores per time, of one group: ``cpu.max`` is ``150000 100000`` or ``max 100000``."""
    if group.version == 2:
        texts = group.text("cpu.max").split()
    else:
        texts = [group.text("cpu.cfs_quota_us"), group.text("cpu.cfs_period_us")]
    if len(texts) != 2:
        return None
    quota, period = map(whole_number, texts)
    if quota is None or period is None or quota <= 0 or period <= 0:
        return None
    return quota / period
