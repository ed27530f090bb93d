"""The CPU: name, instruction sets and usable cores."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def processor_name() -> str:
    """The CPU's name from the kernel, or its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_facts(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def cpu_flags() -> set[str]:
    """CPU flags of the kernel (``avx2``, ``amx_bf16``, ...); empty if the kernel does not list them."""
    found = re.search(r"^flags\s*:\s*(.+)$", _cpu_facts(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def processor_identity() -> str:
    """Architecture, name and flags. Code compiled for one identity must not run on another."""
    return f"{platform.machine()} {processor_name()} {' '.join(sorted(cpu_flags()))}"


def _cpu_facts() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def core_count() -> str:
    """How many cores this process may use, in words; says also how many the machine has where those are more."""
    usable, present = usable_cores(), os.cpu_count() or 1
    if usable < present:
        return f"{usable} of {present} cores usable"
    return f"{usable} core{'s' if usable > 1 else ''}"


def usable_cores() -> int:
    """Number of cores that this process may use: fewer than the machine has in a container or under ``taskset``."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
