"""Tables whose columns stay below each other, whatever letters names have: wide, combining, or escaped ones."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable

_JAMO = range(0x1160, 0x1200)
"""Vowels and final consonants of Korean, which join the letter before them. File names from a Mac have them."""


def columns_of(text: str) -> int:
    """Columns that a terminal takes for a text, as stdout writes it.

    Wide letters take two columns (Unicode Standard Annex 11), combining and invisible ones none. Letters that the
    encoding of stdout does not have are written as escapes.
    """
    if text.isascii():
        return len(text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return sum(map(_columns_of_letter, text.encode(encoding, "backslashreplace").decode(encoding)))


def _columns_of_letter(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf") or ord(letter) in _JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def right(text: str, width: int) -> str:
    """A text at the right end of a column of ``width``; a wider text as it is."""
    return f"{' ' * (width - columns_of(text))}{text}"


def left(text: str, width: int) -> str:
    """A text at the left end of a column of ``width``; a wider text as it is."""
    return f"{text}{' ' * (width - columns_of(text))}"


def widest(texts: Iterable[str], least: int = 0) -> int:
    """Columns of the widest of some texts, and at least ``least``."""
    return max([least, *map(columns_of, texts)])


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most ``columns``, broken between words. A longer word is not broken."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and columns_of(lines[-1]) + 1 + columns_of(word) <= columns:
            lines[-1] += f" {word}"
        elif word:
            lines.append(word)
    return [line.rstrip() for line in lines]
