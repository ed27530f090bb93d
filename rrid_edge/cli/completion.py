"""Answers to shells that complete a command line. Typer's scripts for bash, zsh and fish ask for them.

A shell sets a variable and gives the words so far in others. The answer lists candidates. Where there are none, the
shell completes the names of files itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from rrid_edge.cli.startup import command_in
from rrid_edge.errors import UsageError

_ASKED = "_RRID_EDGE_COMPLETE"
_SHELLS: Final = ("bash", "fish", "zsh", "powershell", "pwsh")
INSTALLS: Final = frozenset({"--install-completion", "--show-completion"})
"""Options that ask for the completion of the shell that runs this process."""
_WORDS = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Variables with the words of the command line: of bash, and of the other shells."""


def is_asked_by_shell() -> bool:
    """Whether a shell started this process to complete a command line."""
    return bool(os.environ.get(_ASKED))


def answer_shell(build: Callable[[str], Any]) -> int:
    """Print the candidates for the word that is being typed, and return the exit code.

    An error says nothing: its text would stand in the middle of the line that the user types. ``RRID_EDGE_DEBUG`` shows
    it.

    Args:
        build: makes the command line; takes the name of the command that was typed, which may be no command or empty.
    """
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # it would be imported to remove its own markup
    _join_values()
    words = next((os.environ[name] for name in _WORDS if name in os.environ), "").split()
    try:
        build(command_in(words[1:])).main([], prog_name="rrid-edge", complete_var=_ASKED)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    except BaseException:
        if os.environ.get("RRID_EDGE_DEBUG"):
            raise
        return 1
    return 0


def _join_values() -> None:
    """Leave out bash's words ``=``: it makes three of ``--runtime=openvino``, and Typer reads an option and a value."""
    words, place = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if "=" in words and place.isdecimal():
        os.environ["COMP_CWORD"] = str(int(place) - words[: int(place)].count("="))
        os.environ["COMP_WORDS"] = "\n".join(word for word in words if word != "=")


def refuse_unknown_shell() -> None:
    """Refuse to install or print a completion where Typer would say "Shell None is not supported".

    Raises:
        UsageError: no shell that Typer knows runs this process.
    """
    from shellingham import ShellDetectionFailure, detect_shell  # Typer requires it

    try:
        name = detect_shell()[0]
    except ShellDetectionFailure:
        name = ""
    if name not in _SHELLS:
        found = f"the shell {name!r} runs this" if name else "no shell runs this"
        raise UsageError(f"{found}: expected {', '.join(_SHELLS[:-1])} or {_SHELLS[-1]}; run it from one of these")


def one_of(values: str) -> Callable[[str], list[str]]:
    """Completion of an option or argument that takes one of these words."""

    def candidates(incomplete: str) -> list[str]:
        return [value for value in values.split() if value.startswith(incomplete)]

    return candidates
