"""What the commands share: options, messages on stderr, progress bars, JSON on stdout."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from rrid_edge.errors import MissingExtraError

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

Advance = Callable[[int], None]
"""Called with the number of items done since the last call."""


def say(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    print(line, file=sys.stderr, flush=True)


def require(module: str, extra: str, purpose: str) -> None:
    """Import ``module`` of this package, or say which extra brings what it needs.

    Raises:
        MissingExtraError: a package that it imports is not installed.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package(error.name or module, extra, purpose) from error


def print_json(value: object) -> None:
    """The machine-readable result, on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def progress(description: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr; silent where stderr is not a terminal.

    Args:
        description: what is being done, in a few words.
        total: items to do, or None where that is not known.

    Yields:
        A function to call with the number of items done since the last call.
    """
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)
