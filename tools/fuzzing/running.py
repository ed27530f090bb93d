"""Worker processes that run cases, and the parent that watches them: a crash or a hang costs one case."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path

from fuzzing.watching import FAULT, Cases, Result, watched

_FORK = multiprocessing.get_context("fork")
"""A worker inherits all imported packages, so that a new one starts at once."""
_LOOK_S = 0.5
_END_S = 5.0
_STDERR = "stderr.txt"


@dataclass(frozen=True)
class Limits:
    """What a case may take.

    Attributes:
        hang_s: seconds.
        peak_mib: resident memory that it adds to its process, in MiB. A process that reads images holds 60 MiB itself.
    """

    hang_s: float = 20.0
    peak_mib: float = 330.0


def run_here(cases: Cases, numbers: Sequence[int], limits: Limits) -> list[Result]:
    """Run cases in this process. A crash ends it; a hang is seen at its end only."""
    with work_folder() as folder:
        cases.start(folder)
        try:
            results = [watched(cases, number, limits.peak_mib) for number in numbers]
        finally:
            cases.stop()
    return [_not_too_long(result, limits) for result in results]


def run_apart(
    cases: Cases, numbers: Sequence[int], limits: Limits, jobs: int, heard: Callable[[Result], None]
) -> list[Result]:
    """Run cases in ``jobs`` processes. ``heard`` gets every result as it comes."""
    results: list[Result] = []
    waiting = iter(numbers)
    workers = [Worker(cases, limits) for _ in range(min(jobs, max(1, len(numbers))))]
    try:
        busy = [worker for worker in workers if worker.give(waiting)]
        while busy:
            wait([worker.answers for worker in busy], _LOOK_S)
            for worker in list(busy):
                result = worker.result()
                if result is None:
                    continue
                results.append(result)
                heard(result)
                if not worker.give(waiting):
                    busy.remove(worker)
    finally:
        for worker in workers:
            worker.end()
    return results


class Worker:
    """One process, which is replaced when it dies or is killed for hanging."""

    def __init__(self, cases: Cases, limits: Limits) -> None:
        self._cases, self._limits = cases, limits
        self._number, self._began = -1, 0.0
        self._start()

    def _start(self) -> None:
        self.answers, there = _FORK.Pipe()
        self._folder = contextlib.ExitStack()
        self._work = self._folder.enter_context(work_folder())
        self._process: ForkProcess = _FORK.Process(target=_serve, args=(self._cases, self._limits, self._work, there))
        self._process.start()
        there.close()

    def give(self, numbers: Iterator[int]) -> bool:
        """Give the next case; False if there is none."""
        number = next(numbers, None)
        if number is None:
            return False
        self._number, self._began = number, time.monotonic()
        with contextlib.suppress(OSError):  # a process that is dead already answers nothing, which result() notices
            self.answers.send(number)
        return True

    def result(self) -> Result | None:
        """The result of the case, or None while it runs."""
        seconds = time.monotonic() - self._began
        try:
            if self.answers.poll():
                found: Result = self.answers.recv()
                return _not_too_long(found, self._limits)
        except (EOFError, OSError):
            return self._replaced(seconds, None)
        if not self._process.is_alive() and not self.answers.poll():
            return self._replaced(seconds, None)
        if seconds > self._limits.hang_s + _LOOK_S:
            return self._replaced(seconds, f"no end after {seconds:.0f} s")
        return None

    def _replaced(self, seconds: float, reason: str | None) -> Result:
        self._process.join(0 if reason else _END_S)
        said = (self._work / _STDERR).read_bytes()[-600:].decode(errors="replace") if not reason else ""
        detail = reason or f"the process ended with {self._process.exitcode}: {' '.join(said.split())}"
        self.end()
        self._start()
        return Result(self._number, self._cases.kind(self._number), FAULT, detail, seconds)

    def end(self) -> None:
        """End the process, and remove its folder."""
        with contextlib.suppress(OSError):
            self.answers.send(None)
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.answers.close()
        self._folder.close()


def _not_too_long(result: Result, limits: Limits) -> Result:
    if result.outcome == FAULT or result.seconds <= limits.hang_s:
        return result
    detail = f"took {result.seconds:.0f} s; {result.detail}"
    return Result(result.number, result.kind, FAULT, detail, result.seconds, result.peak_mib)


def _serve(cases: Cases, limits: Limits, folder: Path, there: Connection) -> None:
    parent = os.getppid()
    os.chdir(folder)
    with (folder / _STDERR).open("wb") as stderr:  # libtiff prints about damaged files
        os.dup2(stderr.fileno(), 2)
    faulthandler.enable()
    cases.start(folder)
    while os.getppid() == parent:
        if not there.poll(_END_S):
            continue
        number = there.recv()
        if number is None:
            break
        there.send(watched(cases, number, limits.peak_mib))
    cases.stop()


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """An empty folder, in memory where the machine has such a place."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="rrid-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
