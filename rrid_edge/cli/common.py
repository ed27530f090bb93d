"""Shared by all commands: the JSON option, messages on stderr, progress bars, JSON on stdout."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import Self

from rrid_edge.cli.terminal import behind, is_verbose, plain_json, plain_output
from rrid_edge.errors import printable
from rrid_edge.json_text import json_text
from rrid_edge.progress import reporter_here, step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from rrid_edge.engines.runtime_choice import RuntimeChoice
    from rrid_edge.progress import Step

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def say(line: str) -> None:
    """Print one line on stderr. Newlines and control characters in it are shown as escapes."""
    print(printable(line), file=sys.stderr, flush=True)


def show(line: str) -> None:
    """Print one line of the result on stdout. Newlines and control characters in it are shown as escapes."""
    print(printable(line))


def told_choice(choice: RuntimeChoice) -> str:
    """A choice of a runtime in one clause; with ``--verbose`` all of its reasons."""
    return choice.describe() if is_verbose() else choice.in_brief()


def require(module: str, extra: str, purpose: str) -> None:
    """Import ``module`` of this package.

    Raises:
        MissingDependencyError: the module imports a package that is not installed; names the ``extra`` to install.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        from rrid_edge.machine.advice import missing_package

        raise missing_package(error.name or module, extra, purpose) from error


def print_json(value: object, *, indent: int | None = 2) -> None:
    r"""Print the result as JSON on stdout.

    Characters that are not printable are escapes such as ``\u009b``. Bytes of a file name that are no UTF-8 are
    written as :mod:`rrid_edge.json_text` says.
    """
    print(plain_json(json_text(value, indent=indent)), flush=True)


def print_json_rows(head: Mapping[str, object], name: str, rows: Iterable[object]) -> None:
    """Print an object as JSON on stdout whose last entry is a list, one element per line. The list is never held.

    Args:
        head: the other entries.
        name: of the list.
        rows: elements of the list.
    """
    opening = plain_json(json_text({**head, name: []}, indent=2)).removesuffix("]\n}")
    print(opening, end="")
    before = "\n    "
    for row in rows:
        print(before + plain_json(json_text(row)), end="")
        before = ",\n    "
    print("]\n}" if before.startswith("\n") else "\n  ]\n}", flush=True)


class ProgressBar:
    """A :class:`rrid_edge.progress.Progress` that draws a bar on stderr, and is a step of the work.

    It draws nothing if stderr is not a terminal or if there is no work. Lines in a log tell the step then.

    Args:
        description: label of the bar, for example ``embedding``.
        in_percent: the items mean nothing to a reader, so that lines tell only their share.
    """

    def __init__(self, description: str, *, in_percent: bool = False) -> None:
        self._description, self._in_percent = description, in_percent
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._context = contextlib.ExitStack()
        self._step: Step | None = None

    def __enter__(self) -> Self:
        self._step = self._context.enter_context(step(self._description, in_percent=self._in_percent))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._context.close()
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int | None) -> None:
        """Show the bar. A ``total`` of None means that the amount of work is unknown."""
        if self._step is not None:
            self._step.start(total)
        if total == 0 or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        label = TextColumn("{task.description}", markup=False)
        columns = (label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=behind(sys.stderr)), transient=True)
        self._task = self._bar.add_task(printable(self._description), total=total)
        self._bar.start()
        # The bar takes over both streams, and would draw what escape sequences in other people's lines ask for.
        self._context.enter_context(plain_output())
        self._context.enter_context(_without_lines())

    def advance(self, count: int) -> None:
        """Move the bar forward by ``count``."""
        if self._step is not None:
            self._step.advance(count)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)


@contextlib.contextmanager
def _without_lines() -> Iterator[None]:
    """Context in which a bar is drawn, so that no lines tell the same."""
    reporter = reporter_here()
    if reporter is None:
        yield
        return
    before, reporter.is_quiet = reporter.is_quiet, True
    try:
        yield
    finally:
        reporter.is_quiet = before
