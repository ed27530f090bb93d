"""The commands of the documentation: what readers copy from its fenced blocks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(`{3,})([a-z]*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
_PROGRAMS = ("rrid-edge", "pip", "python", "python3", "torchrun", "export", "make")
"""A block without a language holds commands if a line begins with one of these."""


@dataclass(frozen=True)
class Command:
    """A command as a page shows it.

    Attributes:
        page: path of the page in the repository.
        text: the command, without its comment; lines of one command are joined by newlines.
    """

    page: str
    text: str


def pages(root: Path) -> list[str]:
    """README and the pages of the documentation, in a fixed order."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (root / "docs").glob("*.md"))]


def commands_of(root: Path, page: str) -> list[Command]:
    """Every command of a page, in order."""
    text = (root / page).read_text(encoding="utf-8")
    return [Command(page, command) for found in _FENCE.finditer(text) for command in _of_block(found[2], found[3])]


def _of_block(language: str, block: str) -> Iterator[str]:
    lines = block.splitlines()
    if any(line.startswith("$ ") for line in lines):  # what follows a prompt is a command, all else its output
        yield from (_without_comment(line[2:]) for line in lines if line.startswith("$ "))
    elif language == "bash" or (not language and any(_begins_with_program(line) for line in lines)):
        yield from _joined(lines)


def _begins_with_program(line: str) -> bool:
    return " " in line and line.split(" ")[0] in _PROGRAMS


def _joined(lines: list[str]) -> Iterator[str]:
    """Commands that span lines are one: Bash decides where a command ends."""
    held: list[str] = []
    for line in lines:
        held.append(_without_comment(line))
        text = "\n".join(held).strip()
        if text and not text.endswith("\\") and _is_whole(text):
            yield text
            held = []
    if "\n".join(held).strip():
        raise ValueError(f"a block ends within a command: {held}; close its quotes and parentheses")


def _without_comment(line: str) -> str:
    return re.sub(r"\s+#\s.*$", "", line) if "'" not in line.partition("#")[2] else re.sub(r"\s{2,}#\s.*$", "", line)


def _is_whole(text: str) -> bool:
    return subprocess.run(["bash", "-nc", text], capture_output=True, check=False).returncode == 0
