"""What one case did: its outcome, its time and memory, and writes or programs that it should not have caused."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

SOUND: Final = "sound"
REFUSED: Final = "refused"
FAULT: Final = "fault"


@dataclass(frozen=True)
class Result:
    """What the fuzzer saw of one case.

    Attributes:
        number: of the case; with the seed it makes the case again.
        kind: format of the image, or kind of artefact.
        outcome: :data:`SOUND`, :data:`REFUSED` or :data:`FAULT`.
        detail: the reason of a refusal or a fault.
        seconds: wall-clock time.
        peak_mib: resident memory that the case took at its peak, besides what the process held before, in MiB.
    """

    number: int
    kind: str
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0


class Cases(Protocol):
    """One kind of fuzzing. Every process has its own after :meth:`start`."""

    count: int
    only_reads: bool
    """Whether a case only reads its file. A sound file may cause work that needs more memory, such as a training."""

    def start(self, folder: Path) -> None:
        """Prepare a process; ``folder`` is its own and empty."""

    def kind(self, number: int) -> str:
        """The kind of a case, without making it."""

    def check(self, number: int) -> tuple[str, str]:
        """Run a case. Returns its outcome and detail. An exception is a fault of the program under test."""

    def save(self, number: int, folder: Path) -> None:
        """Write the files of a case."""

    def stop(self) -> None:
        """End what :meth:`start` began."""


def watched(cases: Cases, number: int, most_mib: float) -> Result:
    """Run a case, and measure it."""
    METER.start()
    start = time.monotonic()
    try:
        outcome, detail = cases.check(number)
    except Exception as error:
        outcome, detail = FAULT, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{_place(error)}"
    seconds, peak = time.monotonic() - start, METER.taken_mib()
    if peak > most_mib / 2:
        gc.collect()  # the next case shall not count what this one holds
    if peak > most_mib and (outcome == REFUSED or (outcome == SOUND and cases.only_reads)):
        outcome, detail = FAULT, f"{peak:.0f} MiB of memory, expected at most {most_mib:.0f}; {detail}"
    return Result(number, cases.kind(number), outcome, detail, seconds, peak)


def _place(error: BaseException) -> str:
    """The innermost line of this package in a traceback."""
    found, step = "", error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if "rrid_" in file:
            found = f" ({file.rpartition('/rrid_')[2]}:{step.tb_lineno})"
        step = step.tb_next
    return found


class PeakMeter:
    """Measures the resident memory that this process takes besides what it held at the start.

    Packages such as PyTorch hold more than any case takes.
    """

    def __init__(self) -> None:
        self._held_mib = 0.0

    def start(self) -> None:
        """Start, or start again after a case was made: that is not the work of the program under test."""
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - as quick as it gets
            file.write("5")  # where the kernel cannot, the peak is that of the process's life
        self._held_mib = _memory_mib("VmRSS:")

    def taken_mib(self) -> float:
        """Memory at the peak since the start, in MiB."""
        return max(0.0, _memory_mib("VmHWM:") - self._held_mib)


METER: Final = PeakMeter()
"""Of this process."""


def _memory_mib(entry: str) -> float:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return next(int(line.split()[1]) for line in file if line.startswith(entry)) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


USER_FOLDERS: Final = ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR")
"""Variables that name folders which commands and packages write to for the user."""
_PROGRAMS: Final = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect")
_WRITES: Final = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITING_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Sentry:
    """Notes programs that are started, and files that are changed outside a folder.

    It sees what Python code does, and what compiled code does through Python.
    """

    def __init__(self) -> None:
        self._allowed: tuple[str, ...] = ()
        self._noted: list[str] = []
        self._is_watching = False
        self._allows: Callable[[str, Any], bool] = lambda _event, _arguments: False
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def watching(self, *folders: Path, allows: Callable[[str, Any], bool] | None = None) -> Iterator[list[str]]:
        """Watch in this context.

        Args:
            folders: where files may be changed.
            allows: says whether an event is no offence, from its name and arguments.

        Returns:
            The list of offences; complete at the end of the context.
        """
        self._allowed = tuple(os.path.realpath(folder) + "/" for folder in folders)
        self._allows = allows or (lambda _event, _arguments: False)
        self._noted, self._is_watching = [], True
        try:
            yield self._noted
        finally:
            self._is_watching = False

    def _hook(self, event: str, arguments: Any) -> None:  # noqa: ANN401 - as the event has them
        if not self._is_watching:
            return
        if event in _PROGRAMS:
            if not self._allows(event, arguments):
                self._noted.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and (flags or 0) & _WRITING_FLAGS:
                self._note_write(event, path)
        elif event in _WRITES:
            for path in arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]:
                if isinstance(path, str | bytes):
                    self._note_write(event, path)

    def _note_write(self, event: str, path: str | bytes) -> None:
        # Without audited calls: os.path.realpath would come back here only through calls that change nothing.
        place = os.path.realpath(os.path.dirname(os.fsdecode(path))) + "/"  # noqa: PTH120
        if not place.startswith(self._allowed) and not place.startswith(("/dev/", "/proc/")):
            self._noted.append(f"{event} {os.fsdecode(path)!r}")
