"""``rrid-edge help``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer

from rrid_edge.cli.app import COMMANDS, PROGRAM, app, built_command, register
from rrid_edge.cli.common import show
from rrid_edge.errors import UsageError, printable


def _candidates(context: typer.Context, incomplete: str) -> list[str]:
    """Names that complete the last word of ``help``."""
    words = list(context.params.get("command") or ())
    if words:
        register(words[0])
        names = list(getattr(built_command().commands.get(words[0]), "commands", {})) if len(words) == 1 else []
    else:
        names = list(COMMANDS)
    return [name for name in names if name.startswith(incomplete)]


@app.command(
    "help",
    epilog="Example: rrid-edge help gallery export",
    help="Print the help of a command, or write all of it as man pages. It prints what COMMAND --help prints.",
)
def show_help(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            help="Command, such as match, or gallery export; default: the list of commands.", autocompletion=_candidates
        ),
    ] = None,
    man: Annotated[
        Path | None,
        typer.Option(
            "--man", help="Write the man pages of all commands into this folder, such as ~/.local/share/man/man1."
        ),
    ] = None,
) -> None:
    if man is None:
        print(_context_of(command or []).get_help())
        return
    if command:
        raise UsageError(
            f"{printable(' '.join(command))}: man pages are written for all commands at once; leave the name out",
            parameter="man",
        )
    from rrid_edge.cli.man_pages import write_man_pages

    register()
    count = write_man_pages(built_command(), PROGRAM, man)
    show(f"written: {count} man pages in {printable(man)}")


def _context_of(words: list[str]) -> Any:  # noqa: ANN401 - Typer brings its own Click
    """The context of a command.

    Args:
        words: its names, such as ``["gallery", "export"]``; empty for the whole command line.

    Raises:
        UsageError: there is no such command.
    """
    if words and words[0] in COMMANDS:
        register(words[0])
    current = built_command()
    context = current.context_class(current, info_name=PROGRAM)
    for number, word in enumerate(words):
        names = list(COMMANDS) if number == 0 else list(getattr(current, "commands", {}))
        if word not in names:
            raise _no_command(words[: number + 1], names)
        current = current.commands[word]
        context = current.context_class(current, info_name=word, parent=context)
    return context


def _no_command(words: list[str], names: list[str]) -> UsageError:
    given, above = printable(" ".join(words)), " ".join(words[:-1])
    if not names:
        return UsageError(f"no command {given!r}: {above} has no commands below it; try: {PROGRAM} help {above}")
    near = difflib.get_close_matches(words[-1], names, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"no command {given!r}: {meant}all commands: {' '.join([PROGRAM, 'help', above]).rstrip()}")
