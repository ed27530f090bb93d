"""``rrid-edge help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rrid_edge.cli.app import COMMANDS, PROGRAM, app, built_command, register
from rrid_edge.cli.common import show
from rrid_edge.cli.wrong_use import unknown_command
from rrid_edge.errors import UsageError, printable
from rrid_edge.files import check_writable


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
    if man.exists() and not man.is_dir():
        raise UsageError(f"{printable(man)}: this is a file; expected a folder for the man pages", parameter="man")
    check_writable(man)
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
    register(words[0] if words else "")
    current = built_command()
    context = current.context_class(current, info_name=PROGRAM)
    for number, word in enumerate(words):
        below = getattr(current, "commands", {})
        if word not in below:
            raise _no_command(words[:number], word, current)
        current = below[word]
        context = current.context_class(current, info_name=word, parent=context)
    return context


def _no_command(above: list[str], word: str, current: Any) -> UsageError:  # noqa: ANN401 - as above
    place = " ".join([PROGRAM, "help", *above])
    if not hasattr(current, "commands"):
        return UsageError(f"{' '.join(above)} has no commands below it, so not {word!r} either; see: {place}")
    told = unknown_command(word, current)
    return UsageError(f"{told}{' See' if told.endswith('?') else '; see'}: {place}")
