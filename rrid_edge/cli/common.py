"""Shared by all commands: the JSON option, messages on stderr, progress bars, JSON on stdout."""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import Self

from rrid_edge.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def say(line: str) -> None:
    """Print one line on stderr."""
    print(line, file=sys.stderr, flush=True)


def require(module: str, extra: str, purpose: str) -> None:
    """Import ``module`` of this package.

    Raises:
        MissingDependencyError: the module imports a package that is not installed; names the ``extra`` to install.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError.for_package(error.name or module, extra, purpose) from error


def print_json(value: object, *, indent: int | None = 2) -> None:
    r"""Print the result as JSON on stdout.

    Bytes of a file name that are no UTF-8 are printed as the escapes ``\udc80`` to ``\udcff``: valid JSON, from which
    ``os.fsencode`` gives the bytes back.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    print(re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


class ProgressBar:
    """A :class:`rrid_edge.progress.Progress` that draws a bar on stderr.

    It draws nothing if stderr is not a terminal or if there is no work.

    Args:
        description: label of the bar, for example ``embedding``.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int | None) -> None:
        """Show the bar. A ``total`` of None means that the amount of work is unknown."""
        if total == 0 or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._description, total=total)
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar forward by ``count``."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)
