"""A terminal of so many columns: what a person sees after a command has ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SEQUENCE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")


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
