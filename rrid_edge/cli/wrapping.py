"""Lines that fit a terminal: examples that can still be copied, and facts with their values below each other."""

from __future__ import annotations

import functools
import re
import shutil
import sys
import textwrap
from typing import Any

from rrid_edge.cli.aligning import columns_of, left, wrapped
from rrid_edge.errors import printable

_EXAMPLE = "Example: "
_HELP_WIDTH = 78
"""Columns of a help text at most, as Click writes it."""


def keep_examples_whole(command: Any) -> None:  # noqa: ANN401 - Typer brings its own Click
    """Let the example of a command, and of all commands of a group, be copied from a help text of 80 columns.

    A long example is broken with backslashes, as shells continue a line.

    Args:
        command: as ``typer.main.get_command`` returns it.
    """
    for part in getattr(command, "commands", {}).values():
        keep_examples_whole(part)
    if (command.epilog or "").startswith(_EXAMPLE):
        command.format_epilog = functools.partial(_format_example, command.epilog)


def _format_example(epilog: str, _context: object, formatter: Any) -> None:  # noqa: ANN401 - as above
    """Write an example below a help text."""
    if len(epilog) > _HELP_WIDTH - 2:
        words = re.sub(r"(--[\w-]+) (?!-)", "\\1\0", epilog.removeprefix(_EXAMPLE))  # a value stays with its option
        lines = textwrap.wrap(words, _HELP_WIDTH - 8, break_long_words=False, break_on_hyphens=False)
        # Click keeps the lines of a paragraph that begins with \b.
        epilog = "\b\n" + _EXAMPLE.rstrip() + "\n  " + " \\\n      ".join(lines).replace("\0", " ")
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(epilog)


def show_facts(rows: list[tuple[str, str]], *, name_width: int) -> None:
    """Print names and their values in two columns on stdout.

    On a terminal a long value goes on in its own column. Elsewhere it stays on its line, so that programs find it.

    Args:
        rows: names and values.
        name_width: columns of the names.
    """
    for name, value in rows:
        show_beside(f"{left(printable(name), name_width)} ", value)


def show_beside(label: str, text: str) -> None:
    """Print ``label`` and ``text`` on stdout as :func:`show_facts` prints a name and a value."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in hanging(printable(label), printable(text), columns):
        print(line)


def hanging(label: str, text: str, columns: int) -> list[str]:
    """Lines of ``label`` and ``text``, of which all but the first are indented by the label.

    Args:
        label: begins the first line.
        text: goes on below itself.
        columns: most characters of a line. A longer word is not broken. 0 makes one line.
    """
    before = columns_of(label)
    if columns <= before or before + columns_of(text) <= columns:
        return [f"{label}{text}".rstrip()]
    parts = wrapped(text, columns - before)
    return [f"{label if number == 0 else ' ' * before}{part}" for number, part in enumerate(parts)]
