"""Runs a command as a newcomer does: with its output in files, or in a terminal. Some commands have to be stopped."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from first_ten_minutes.screen import Screen

_LINES = 50
_PAUSE_S = 1.0
"""How long a command that was ready goes on before it is stopped."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell: commands would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Seen:
    """What a command printed.

    Attributes:
        code: exit code; -1 if it ran too long.
        out: lines on stdout; in a terminal all lines.
        err: lines on stderr; in a terminal none.
        faults: what is wrong with the form.
    """

    code: int
    out: list[str]
    err: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """When a command ends.

    Attributes:
        limit_s: seconds after which it is killed, which is a fault.
        until: the command runs until it is stopped. Once it has printed this text it gets SIGINT, as by Ctrl-C.
            None if it ends by itself.
    """

    limit_s: float
    until: str | None = None


def in_files(command: str, folder: Path, environment: Mapping[str, str], limits: Limits) -> Seen:
    """Run a command with stdout and stderr redirected to files, and nothing on stdin."""
    process = subprocess.Popen(
        _in_bash(command),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        sent, faults = _read_all([process.stdout.fileno(), process.stderr.fileno()], process, limits)
    code = process.wait()
    out, err = (part.decode("utf-8", "backslashreplace") for part in sent)
    marks = {"\x1b": "an escape sequence", "\r": "a carriage return"}
    faults = [f"{name} in redirected output" for mark, name in marks.items() if mark in out + err] + faults
    return Seen(_code(code, faults), out.splitlines(), err.splitlines(), faults)


def in_terminal(command: str, folder: Path, environment: Mapping[str, str], limits: Limits, columns: int) -> Seen:
    """Run a command in a pseudo-terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    process = subprocess.Popen(
        _in_bash(command),
        cwd=folder,
        env={**environment, "COLUMNS": str(columns), "LINES": str(_LINES), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    sent, faults = _read_all([ours], process, limits)
    os.close(ours)
    code = process.wait()
    screen = Screen(columns)
    screen.feed(sent[0].decode("utf-8", "backslashreplace"))
    wide = [f"a progress line is wider than {columns} columns: {line}" for line in screen.faults]
    return Seen(_code(code, faults), screen.lines(), [], wide + faults)


def _in_bash(command: str) -> list[str]:
    """The arguments of a bash that runs a command, and stays meanwhile as the shell of a user does."""
    return ["bash", "-c", f"{command}\nexit $?"]


def _code(code: int, faults: Sequence[str]) -> int:
    """The exit code as a shell shows it; -1 if the command was killed because it ran too long."""
    if faults and code == -signal.SIGKILL:
        return -1
    return 128 - code if code < 0 else code


class _Stop:
    """Stops a command that does not end by itself, a moment after it was ready."""

    def __init__(self, until: str | None) -> None:
        self._until = until
        self._at: float | None = None
        self._is_sent = False

    def look(self, texts: Iterable[bytes]) -> None:
        """Look whether the command is ready."""
        if self._at is None and self._until and any(self._until.encode() in text for text in texts):
            self._at = time.monotonic() + _PAUSE_S

    def wait_s(self) -> float:
        """Seconds until the command is to be stopped; infinite if that is not known, or was done."""
        return math.inf if self._at is None or self._is_sent else max(0.0, self._at - time.monotonic())

    def send(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the command, if it is time."""
        if self.wait_s() == 0:
            _signal(process, signal.SIGINT)
            self._is_sent = True

    def faults(self) -> list[str]:
        """What is wrong if the command has ended."""
        return [f"ended before it was stopped, at {self._until!r}"] if self._until and not self._is_sent else []


def _read_all(
    descriptors: Sequence[int], process: subprocess.Popen[bytes], limits: Limits
) -> tuple[list[bytes], list[str]]:
    """All bytes until every writer has gone, and what is wrong with how the command ended."""
    sent = {descriptor: bytearray() for descriptor in descriptors}
    waiting, stop = set(descriptors), _Stop(limits.until)
    end = time.monotonic() + limits.limit_s
    faults: list[str] = []
    while waiting and not faults:
        stop.send(process)
        left_s = end - time.monotonic()
        for descriptor in select.select(list(waiting), [], [], max(0.0, min(left_s, stop.wait_s())))[0]:
            part = _part(descriptor)
            sent[descriptor] += part
            waiting -= set() if part else {descriptor}
        stop.look(map(bytes, sent.values()))
        if left_s <= 0:
            _signal(process, signal.SIGKILL)
            faults = [f"ran longer than {limits.limit_s:.0f} s"]
    return [bytes(sent[descriptor]) for descriptor in descriptors], faults or stop.faults()


def _part(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux reports that nobody has the terminal open any more
        return b""


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the command and what it started, as a terminal does."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
