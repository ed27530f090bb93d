"""Memory that this process may use: the machine's, or less in a container or under ``ulimit -v``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.machine.cgroups import SYSTEM, Group, groups

GIB = 1 << 30
UNLIMITED = 1 << 63
"""Bytes where no limit is known. Version 1 of cgroups writes numbers near it for "no limit"."""


def memory_limit_bytes(system: Path = SYSTEM) -> int:
    """The most memory that this process may ever use, in bytes.

    It is the least of the machine's memory, the limits of all control groups around this process, and the limit of its
    address space.

    Args:
        system: folder in which ``proc`` and ``sys`` lie.
    """
    limits = (limit for group in groups("memory", system) for limit in _limits(group))
    return min(_meminfo_bytes("MemTotal", system), _address_space_bytes(), *limits)


def usable_memory_bytes(system: Path = SYSTEM) -> int:
    """The memory that this process could still take now, in bytes: as :func:`memory_limit_bytes`, less what is in use.

    Memory that holds files only in order to read them faster counts as free, as in ``MemAvailable``.
    """
    left = [limit - _used_bytes(group) for group in groups("memory", system) for limit in _limits(group)]
    space = _address_space_bytes()
    if space < UNLIMITED:
        left.append(space - _own_address_space_bytes())
    return max(0, min(_meminfo_bytes("MemAvailable", system), *left, UNLIMITED))


def machine_bytes(system: Path = SYSTEM) -> int:
    """The machine's memory in bytes."""
    return _meminfo_bytes("MemTotal", system)


def resident_bytes(system: Path = SYSTEM) -> int | None:
    """Resident memory of this process in bytes; None on systems without ``/proc``, for example macOS."""
    return _status_bytes("VmRSS", system)


def peak_resident_bytes(system: Path = SYSTEM) -> int | None:
    """The most resident memory of this process since its program started, in bytes; None without ``/proc``.

    ``ru_maxrss`` is not that: a process inherits the peak of the one that started it.
    """
    return _status_bytes("VmHWM", system)


def _status_bytes(name: str, system: Path) -> int | None:
    """An entry of ``/proc/self/status``."""
    try:
        text = (system / "proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d{{1,15}}) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else None


def _limits(group: Group) -> Iterator[int]:
    """The limits of a group. Above ``memory.high`` the kernel slows a process down, so it is one too."""
    names = ("memory.max", "memory.high") if group.version == 2 else ("memory.limit_in_bytes",)
    for name in names:
        limit = group.number(name)
        if limit is not None and limit >= 0:
            yield limit
    # Version 1 also writes here the limits of groups around a container, which it does not see.
    if group.version == 1 and (least := group.statistic("memory.stat", "hierarchical_memory_limit")):
        yield least


def _used_bytes(group: Group) -> int:
    """Memory of a group without the files that the kernel gives up first."""
    if group.version == 2:
        used, files = group.number("memory.current"), group.statistic("memory.stat", "inactive_file")
    else:
        used, files = group.number("memory.usage_in_bytes"), group.statistic("memory.stat", "total_inactive_file")
    return max(0, (used or 0) - files)


def _meminfo_bytes(name: str, system: Path) -> int:
    """An entry of ``/proc/meminfo``; without one, what the C library knows."""
    try:
        text = (system / "proc/meminfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if found := re.search(rf"^{name}:\s+(\d{{1,15}}) kB$", text, re.MULTILINE):
        return int(found[1]) << 10
    if system == SYSTEM:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            pass
    return UNLIMITED


def _address_space_bytes() -> int:
    """The limit of this process's address space (``ulimit -v``)."""
    try:
        import resource  # does not exist on Windows
    except ImportError:
        return UNLIMITED
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _own_address_space_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
