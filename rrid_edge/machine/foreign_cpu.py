"""CPU time that other programs take while something is measured, read from Linux' ``/proc``.

A foreign share of 0 means that nobody else computed. Time that the hypervisor gave to other machines (steal) is
foreign too. Reference: ``proc(5)``, ``/proc/stat`` and ``/proc/PID/stat``.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from rrid_edge.machine.cgroups import SYSTEM

FOREIGN_LIMIT: Final = 0.10
"""Largest share of foreign CPU of a measurement that counts as quiet."""
SHORTEST_S: Final = 0.5
"""Seconds that a measurement needs for a share. The kernel counts in steps of 10 ms; here they are 2 % of two cores."""
_CORE = re.compile(r"^cpu(\d+)((?: \d+){8,})[ \d]*$", re.MULTILINE)
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)

Result = TypeVar("Result")


@dataclass(frozen=True)
class CpuReading:
    """CPU times since the start of the machine, in seconds.

    Attributes:
        at_s: monotonic time of the reading.
        cores: cores that were read.
        total_s: time of these cores, idle or not.
        busy_s: time in which they computed for anybody, and steal.
        own_s: time that this process and its descendants computed.
    """

    at_s: float
    cores: int
    total_s: float
    busy_s: float
    own_s: float


def read_cpu(system: Path = SYSTEM, *, process: int | None = None) -> CpuReading | None:
    """Read the CPU times of the cores that this process may use.

    Args:
        system: folder in which ``proc`` lies.
        process: the measuring process; None for this one.

    Returns:
        The times, or None on a system without ``/proc/stat``, for example macOS.
    """
    try:
        text = (system / "proc/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") and system == SYSTEM else None
    lines = [[int(word) for word in ticks.split()] for core, ticks in _CORE.findall(text) if _in(int(core), allowed)]
    own = _own_ticks(system / "proc", process or os.getpid())
    if not lines or own is None:
        return None
    total = sum(sum(line[:8]) for line in lines)
    idle = sum(line[_IDLE] + line[_IOWAIT] for line in lines)
    second = ticks_per_second()
    return CpuReading(time.monotonic(), len(lines), total / second, (total - idle) / second, own / second)


def ticks_per_second() -> int:
    """The unit of the times in ``/proc``."""
    return os.sysconf("SC_CLK_TCK")


def foreign_share(begin: CpuReading | None, end: CpuReading | None) -> float | None:
    """Share of the cores' time in which they computed for other programs, in [0, 1].

    Returns:
        None if a reading is missing, they are less than :data:`SHORTEST_S` apart, or the kernel did not count: some
        sandboxes fill ``/proc/stat`` with zeros.
    """
    if begin is None or end is None or end.at_s - begin.at_s < SHORTEST_S:
        return None
    total = end.total_s - begin.total_s
    if total < 0.5 * (end.at_s - begin.at_s) * end.cores:
        return None
    foreign = (end.busy_s - begin.busy_s) - (end.own_s - begin.own_s)
    return min(1.0, max(0.0, foreign / total))


class ForeignCpu:
    """The share of foreign CPU since this object was made."""

    def __init__(self) -> None:
        self._begin = read_cpu()

    def share(self) -> float | None:
        """The share up to now; see :func:`foreign_share`."""
        return foreign_share(self._begin, read_cpu())


def disturbed(share: float | None) -> bool:
    """Whether other programs took more than :data:`FOREIGN_LIMIT`. False if that is not known."""
    return share is not None and share > FOREIGN_LIMIT


class Repeats:
    """How often measurements that other programs disturb are made again.

    Args:
        attempts: most runs of one measurement.
        seconds: what all repeated runs together may take.
    """

    def __init__(self, attempts: int, seconds: float = math.inf) -> None:
        self._attempts, self._left_s = attempts, seconds

    def take(self, runs: int, seconds: float) -> bool:
        """Whether a measurement that was run ``runs`` times may be run again, which takes ``seconds`` of the rest."""
        if runs >= self._attempts or seconds > self._left_s:
            return False
        self._left_s -= seconds
        return True


def quietest(measure: Callable[[], Result], repeats: Repeats) -> tuple[Result, float | None]:
    """Measure, and again while other programs take more than :data:`FOREIGN_LIMIT`.

    Args:
        measure: what to run.
        repeats: how often.

    Returns:
        The result of the run with the least share of foreign CPU, and that share; None if it is not known.
    """
    found: list[tuple[float, Result]] = []
    while True:
        watch, start = ForeignCpu(), time.perf_counter()
        result = measure()
        share, seconds = watch.share(), time.perf_counter() - start
        if share is None:
            return result, None
        found.append((share, result))
        if not disturbed(share) or not repeats.take(len(found), seconds):
            break
    share, result = min(found, key=lambda pair: pair[0])
    return result, share


def largest(shares: Iterable[float | None]) -> float | None:
    """The largest known share; None if none is known."""
    return max((share for share in shares if share is not None), default=None)


def in_words(share: float | None) -> str:
    """A share for people, with a verdict."""
    if share is None:
        return "foreign CPU: not measured (too short, or no /proc/stat on this system)"
    if disturbed(share):
        return f"foreign CPU: {share:.0%}, above {FOREIGN_LIMIT:.0%}: measure again on a quiet machine"
    return f"foreign CPU: {share:.0%} (quiet: at most {FOREIGN_LIMIT:.0%})"


def _in(core: int, allowed: set[int] | None) -> bool:
    return allowed is None or core in allowed


def _own_ticks(proc: Path, process: int) -> int | None:
    """Ticks of a process, its living descendants, and those of them that have ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            words = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
            parents[int(folder.name)] = int(words[1])
            ticks[int(folder.name)] = sum(map(int, words[11:15]))
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
    if process not in ticks:
        return None
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    own, left = 0, [process]
    while left:
        one = left.pop()
        own += ticks[one]
        left += children.get(one, [])
    return own
