"""The share of foreign CPU, from recorded texts of /proc and by hand; measurements that are repeated because of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrid_edge.machine import foreign_cpu
from rrid_edge.machine.foreign_cpu import (
    CpuReading,
    ForeignCpu,
    Repeats,
    disturbed,
    foreign_share,
    in_words,
    largest,
    quietest,
    read_cpu,
)
from rrid_edge.machine.memory import peak_resident_bytes, resident_bytes
from rrid_edge.machine.timing import Quiet, interleave

# Recorded on a virtual machine with two cores; one busy loop of this process, one of somebody else, 3 s apart.
BEGIN = """cpu  8327270 218723 1162020 1881162 48926 0 23869 120046 0 0
cpu0 4030412 92621 567869 1123964 15882 0 2163 58220 0 0
cpu1 4296857 126101 594150 757197 33044 0 21706 61825 0 0
intr 1
"""
END = """cpu  8327770 218723 1162050 1881212 48936 0 23869 120056 0 0
cpu0 4030662 92621 567884 1123989 15887 0 2163 58225 0 0
cpu1 4297107 126101 594165 757222 33049 0 21706 61830 0 0
intr 1
"""
STAT = "{pid} ({name}) S {parent} 1 1 0 -1 4194304 1 0 0 0 {ticks} 20 0 9 0 5 1 1\n"
"""A process; its times are user, system, and the same two of its children that have ended."""


def proc(folder: Path, stat: str, processes: dict[int, tuple[str, int, str]]) -> Path:
    """A system whose ``/proc`` has this ``stat`` and these processes: name, parent, times in ticks."""
    (folder / "proc").mkdir(parents=True)
    (folder / "proc/stat").write_text(stat)
    for pid, (name, parent, ticks) in processes.items():
        (folder / f"proc/{pid}").mkdir()
        (folder / f"proc/{pid}/stat").write_text(STAT.format(pid=pid, name=name, parent=parent, ticks=ticks))
    return folder


def at(reading: CpuReading | None, at_s: float) -> CpuReading:
    assert reading is not None
    return CpuReading(at_s, reading.cores, reading.total_s, reading.busy_s, reading.own_s)


@pytest.fixture(autouse=True)
def _ticks_of_10_ms(monkeypatch):
    monkeypatch.setattr(foreign_cpu, "ticks_per_second", lambda: 100)


def test_the_share_is_what_neither_the_process_nor_its_descendants_took(tmp_path):
    """By hand: 600 ticks of two cores: 60 idle or waiting, 540 busy (10 of them steal); 240 are our own.

    Of our own: 150 of the process, 40 of children that ended, 50 of a living grandchild. A foreign process took the
    rest, and a name with brackets does not confuse.
    """
    begin = proc(tmp_path / "a", BEGIN, {7: ("python3", 1, "100 10 0 0"), 9: ("x) y (z", 1, "500 0 0 0")})
    end = proc(
        tmp_path / "b",
        END,
        {
            7: ("python3", 1, "240 20 38 2"),
            8: ("sh", 7, "0 0 0 0"),
            11: ("worker) 1 (", 8, "45 5 0 0"),
            9: ("x) y (z", 1, "790 0 0 0"),
        },
    )
    first, last = at(read_cpu(begin, process=7), 10), at(read_cpu(end, process=7), 13)
    assert last.cores == 2
    assert last.own_s - first.own_s == pytest.approx(2.40)
    assert last.busy_s - first.busy_s == pytest.approx(5.40)
    assert foreign_share(first, last) == pytest.approx((540 - 240) / 600)


def test_without_proc_the_share_is_unknown_and_says_so(tmp_path):
    (tmp_path / "proc").mkdir()
    assert read_cpu(tmp_path) is None
    reading = CpuReading(0, 2, 100, 10, 5)
    assert foreign_share(None, reading) is None
    assert foreign_share(reading, None) is None
    assert not disturbed(None)
    assert "not measured" in in_words(None)
    assert resident_bytes(tmp_path) is None
    assert peak_resident_bytes(tmp_path) is None


def test_a_process_that_proc_does_not_list_has_no_reading(tmp_path):
    assert read_cpu(proc(tmp_path / "a", BEGIN, {9: ("other", 1, "1 1 0 0")}), process=7) is None


@pytest.mark.parametrize("text", ["", "cpu  0 0\n", "cpu0 1 2 3\n", "no numbers here\n"], ids=range(4))
def test_a_stat_of_another_form_has_no_reading(tmp_path, text):
    assert read_cpu(proc(tmp_path / "a", text, {7: ("python3", 1, "1 1 0 0")}), process=7) is None


def test_what_the_kernel_cannot_say_is_unknown():
    first = CpuReading(10, 2, 100, 50, 5)
    assert foreign_share(first, CpuReading(10.4, 2, 100.8, 50.8, 5)) is None  # too short for steps of 10 ms
    assert foreign_share(first, CpuReading(13, 2, 100, 50, 5)) is None  # a sandbox that does not count
    assert foreign_share(first, CpuReading(13, 2, 106, 50.5, 6)) == 0  # rounding never makes a share negative
    assert foreign_share(first, CpuReading(13, 2, 106, 56, 5)) == 1


def test_verdicts_in_words():
    assert in_words(0.1) == "foreign CPU: 10% (quiet: at most 10%)"
    assert in_words(0.31) == "foreign CPU: 31%, above 10%: measure again on a quiet machine"
    assert largest([None, 0.1, 0.3]) == 0.3
    assert largest([None]) is None


class Machine:
    """A fake clock and kernel: time passes only in calls, and another program takes a share of both cores."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shares: list[float | None]) -> None:
        self.shares, self.now_s, self.foreign_s, self.measured = shares, 0.0, 0.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(foreign_cpu, "read_cpu", self.read)

    def read(self) -> CpuReading | None:
        return None if self.shares[0] is None else CpuReading(self.now_s, 2, 2 * self.now_s, self.foreign_s, 0)

    def call(self) -> None:
        """Take a second, more where another program computes."""
        share = self.shares[min(self.measured // 3, len(self.shares) - 1)] or 0
        self.measured += 1
        self.now_s += 1 + share
        self.foreign_s += 2 * share * (1 + share)


@pytest.mark.parametrize(
    ("shares", "attempts", "share", "median_s", "calls"),
    [
        ([0.05], 3, 0.05, 1.05, 3),  # quiet: once
        ([0.5, 0.02], 3, 0.02, 1.02, 6),  # repeated until it is quiet
        ([0.5, 0.3, 0.4], 3, 0.3, 1.3, 9),  # never quiet: the quietest one
        ([0.5, 0.3], 1, 0.5, 1.5, 3),  # one attempt only
        ([None], 3, None, 1, 3),  # unknown: once
    ],
    ids=["quiet", "repeated", "never-quiet", "one-attempt", "unknown"],
)
def test_a_disturbed_measurement_is_repeated(monkeypatch, shares, attempts, share, median_s, calls):
    machine = Machine(monkeypatch, shares)
    found = interleave({"x": machine.call}, repetitions=3, warm_up=0, quiet=Quiet(0, Repeats(attempts)))["x"]
    assert found.foreign_cpu == (None if share is None else pytest.approx(share))
    assert found.median == pytest.approx(median_s)
    assert machine.measured == calls


def test_short_calls_are_repeated_until_their_share_can_be_known(monkeypatch):
    machine = Machine(monkeypatch, [0.0])
    assert len(interleave({"x": machine.call}, repetitions=2, warm_up=0)["x"].seconds) == 2
    assert len(interleave({"x": machine.call}, repetitions=2, warm_up=0, quiet=Quiet(7, Repeats(1)))["x"].seconds) == 7
    assert len(interleave({"x": machine.call}, repetitions=9, warm_up=0, quiet=Quiet(7, Repeats(1)))["x"].seconds) == 9


def test_any_measurement_can_be_repeated(monkeypatch):
    machine = Machine(monkeypatch, [0.5, 0.0])

    def measure() -> int:
        for _ in range(3):
            machine.call()
        return machine.measured

    assert quietest(measure, Repeats(2)) == (6, 0.0)


def test_repeats_end_when_their_seconds_are_spent(monkeypatch):
    """Two measurements of 4.5 s may be repeated for 5 s together: the first is, the second is not."""
    machine, repeats = Machine(monkeypatch, [0.5]), Repeats(2, seconds=5)
    quiet = Quiet(0, repeats)
    assert [len(interleave({"x": machine.call}, repetitions=3, warm_up=0, quiet=quiet)) for _ in range(2)] == [1, 1]
    assert machine.measured == 3 * (2 + 1)


def test_this_machine_has_a_share():
    """Only that it lies within its bounds: other tests run meanwhile."""
    if not Path("/proc/stat").exists():
        pytest.skip("no /proc here")
    reading = read_cpu()
    assert reading is not None
    assert reading.own_s > 0
    assert 0 < reading.busy_s <= reading.total_s
    assert ForeignCpu().share() is None  # too short


def test_memory_is_read_from_a_recorded_status(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(
        "Name:\tpython3\nVmPeak:\t  901234 kB\nVmHWM:\t   20480 kB\nVmRSS:\t 16 kB\n"
    )
    assert peak_resident_bytes(tmp_path) == 20480 * 1024
    assert resident_bytes(tmp_path) == 16 * 1024


def test_the_peak_is_the_processs_own_and_not_its_parents():
    """A child of a process that once held 300 MB reports its own 60 MB; ``ru_maxrss`` would report the parent's."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    child = (
        "from rrid_edge.machine.memory import peak_resident_bytes as peak, resident_bytes as now\n"
        "before = peak(); held = bytearray(60_000_000); del held\n"
        "print(before, peak(), now())"
    )
    parent = (
        "import subprocess, sys\nheld = bytearray(300_000_000)\n"
        f"print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    before, peak, now = map(int, done.stdout.split())
    assert before < 100_000_000
    assert 58_000_000 < peak - now < 65_000_000
