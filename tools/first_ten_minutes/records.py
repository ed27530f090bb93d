"""The record of a page: for each command its exit code, and the forms of the lines it printed."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

_PROMPT, _MORE = "$ ", "> "


def entry(code: int, out: Sequence[str], err: Sequence[str], screens: Mapping[int, Sequence[str]]) -> list[str]:
    """What is recorded of a command that ran.

    Args:
        code: exit code.
        out: forms of the lines on stdout.
        err: forms of the lines on stderr.
        screens: forms of the lines in terminals, by columns. Lines that are on stdout and stderr too are not repeated.
    """
    lines = [f"exit {code}", *(f"out  {line}".rstrip() for line in out), *(f"err  {line}".rstrip() for line in err)]
    extra = {columns: _beyond(screen, [*out, *err]) for columns, screen in screens.items()}
    if len(set(map(tuple, extra.values()))) == 1:
        return lines + [f"tty  {line}" for line in next(iter(extra.values()))]
    return lines + [f"tty{columns}  {line}" for columns, added in extra.items() for line in added]


def _beyond(screen: Sequence[str], printed: Sequence[str]) -> list[str]:
    """What a terminal shows beside what files get (``+``), and what it lacks (``-``)."""
    shown, known = Counter(filter(None, screen)), Counter(filter(None, printed))
    return [f"+ {line}" for line in (shown - known).elements()] + [f"- {line}" for line in (known - shown).elements()]


def file_of(folder: Path, page: str, kind: str = "") -> Path:
    """Where the record of a page lies: ``adopt.txt``, or ``adopt.extras.txt`` for the kind ``extras``."""
    return folder / ".".join(filter(None, (Path(page).stem.lower(), kind, "txt")))


def write_record(path: Path, entries: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Write the entries of a page, each a command and its lines."""
    parts = ["\n".join([_PROMPT + command.replace("\n", f"\n{_MORE}"), *lines]) for command, lines in entries]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def read_record(path: Path) -> list[tuple[str, list[str]]]:
    """Read what :func:`write_record` wrote; a page without a record has no entries."""
    if not path.exists():
        return []
    entries: list[tuple[str, list[str]]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(_PROMPT):
            entries.append((line[len(_PROMPT) :], []))
        elif line.startswith(_MORE) and not entries[-1][1]:
            entries[-1] = (f"{entries[-1][0]}\n{line[len(_MORE) :]}", [])
        elif line:
            entries[-1][1].append(line)
    return entries


def differences(recorded: Sequence[str], now: Sequence[str]) -> list[str]:
    """Lines that are recorded and missing (``-``), and lines that are new (``+``)."""
    compared = difflib.ndiff(list(recorded), list(now))
    return [line for line in compared if line.startswith(("- ", "+ "))]
