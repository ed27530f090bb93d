"""A terminal of so many columns: what a person sees after a command has ended."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")
_LINES = 50


@dataclass
class _Row:
    text: list[str] = field(default_factory=list)
    is_continued: bool = False
    """The row above was full, and its line goes on here."""


class Screen:
    """What a terminal shows of the text that it was sent: enough of a VT100 for progress bars.

    Args:
        columns: width.

    Attributes:
        faults: lines that were drawn again while they took more than one row: their rests stay on the screen.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.faults: list[str] = []
        self._rows = [_Row()]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Take text and control sequences."""
        text, at = text.replace("\r\n", "\n"), 0  # terminals add the carriage return
        while at < len(text):
            if found := _SEQUENCE.match(text, at):
                self._obey(found[1] or "", found[2] or "")
                at = found.end()
                continue
            self._take(text[at])
            at += 1

    def lines(self) -> list[str]:
        """The lines on the screen, each whole, whatever rows it takes; without blank lines at the end."""
        joined: list[str] = []
        for row in self._rows:
            text = "".join(row.text)
            if row.is_continued:
                joined[-1] += text
            else:
                joined.append(text)
        stripped = [line.rstrip() for line in joined]
        while stripped and not stripped[-1]:
            stripped.pop()
        return stripped

    def _take(self, char: str) -> None:
        if char == "\n":
            self._go_to_row(self._row + 1)
            self._column = 0
        elif char == "\r":
            if self._rows[self._row].is_continued:
                self.faults.append("".join(self._rows[self._row - 1].text).strip())
            self._column = 0
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char == "\t":
            self._column = min(self.columns - 1, (self._column // 8 + 1) * 8)
        elif char >= " ":
            self._put(char)

    def _put(self, char: str) -> None:
        if self._column == self.columns:
            self._go_to_row(self._row + 1)
            self._column = 0
            self._rows[self._row].is_continued = True
        text = self._rows[self._row].text
        text.extend(" " * (self._column + 1 - len(text)))
        text[self._column] = char
        self._column += 1

    def _go_to_row(self, row: int) -> None:
        self._row = max(0, row)
        while len(self._rows) <= self._row:
            self._rows.append(_Row())

    def _obey(self, numbers: str, letter: str) -> None:
        count = int(numbers) if numbers.isdigit() else 0
        text = self._rows[self._row].text
        if letter == "A":
            self._go_to_row(self._row - max(1, count))
        elif letter == "B":
            self._go_to_row(self._row + max(1, count))
        elif letter == "C":
            self._column = min(self.columns - 1, self._column + max(1, count))
        elif letter == "D":
            self._column = max(0, self._column - max(1, count))
        elif letter == "G":
            self._column = max(1, count) - 1
        elif letter == "K" and count == 2:
            self._rows[self._row] = _Row()
        elif letter == "K" and count == 0:
            del text[self._column :]
        elif letter == "J" and count in (0, 2):
            del text[self._column :], self._rows[self._row + 1 :]


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


def in_files(command: str, folder: Path, environment: Mapping[str, str], limit_s: float) -> Seen:
    """Run a command with stdout and stderr redirected to files, and nothing on stdin."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    is_late = False
    try:
        sent = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        sent, is_late = process.communicate(), True
    out, err = (part.decode("utf-8", "backslashreplace") for part in sent)
    marks = {"\x1b": "an escape sequence", "\r": "a carriage return"}
    faults = [f"{name} in redirected output" for mark, name in marks.items() if mark in out + err]
    faults += [f"ran longer than {limit_s:.0f} s"] if is_late else []
    return Seen(-1 if is_late else process.returncode, out.splitlines(), err.splitlines(), faults)


def in_terminal(command: str, folder: Path, environment: Mapping[str, str], limit_s: float, columns: int) -> Seen:
    """Run a command in a pseudo-terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env={**environment, "COLUMNS": str(columns), "LINES": str(_LINES), "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    sent, is_late = _read_all(ours, time.monotonic() + limit_s)
    os.close(ours)
    if is_late:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    screen = Screen(columns)
    screen.feed(sent.decode("utf-8", "backslashreplace"))
    faults = [f"a progress line is wider than {columns} columns: {line}" for line in screen.faults]
    faults += [f"ran longer than {limit_s:.0f} s"] if is_late else []
    return Seen(-1 if is_late else code, screen.lines(), [], faults)


def _read_all(descriptor: int, end: float) -> tuple[bytes, bool]:
    """All bytes until every writer has gone, and whether ``end`` came first."""
    sent = bytearray()
    while (left := end - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # Linux reports that nobody has the terminal open any more
            part = b""
        if not part:
            return bytes(sent), False
        sent += part
    return bytes(sent), True
