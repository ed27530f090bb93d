"""The Typer application. It turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rrid_edge import __version__
from rrid_edge.cli.startup import quick_start
from rrid_edge.errors import OutputError, RridEdgeError

app = typer.Typer(
    name="rrid-edge",
    help="Person re-identification (RRID): train, export, verify, index and match.",
    epilog="First steps: rrid-edge demo-data demo && rrid-edge doctor",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rrid-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options of every command. ``run`` reads ``--debug`` itself, so that it works if parsing fails."""


COMMANDS = {
    "demo-data": "demo",
    "prepare": "prepare",
    "train": "train",
    "evaluate": "evaluate",
    "export": "export",
    "calibrate": "calibrate",
    "parity": "parity",
    "index": "index",
    "match": "match",
    "gallery": "gallery",
    "bench": "bench",
    "info": "inspect",
    "doctor": "inspect",
}
"""Command -> the module of this package that defines it, in the order of work, which `--help` follows."""


def _command_in(arguments: Sequence[str]) -> str:
    """The command in ``arguments``; empty if there is none."""
    return next((item for item in arguments if not item.startswith("-")), "")


def register(arguments: Sequence[str] = ()) -> None:
    """Import the module of the command in ``arguments``. Without a known command, import all of them."""
    # Importing and building all commands would take a seventh of the time of a match.
    command = _command_in(arguments)
    for module in [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values()):
        importlib.import_module(f"rrid_edge.cli.{module}")


def main() -> None:
    """Entry point of the command ``rrid-edge``: run the application and exit with its code."""
    arguments = sys.argv[1:]
    with quick_start(_command_in(arguments)):
        code = run(arguments)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line with ``arguments`` and return its exit code (see :mod:`rrid_edge.errors`)."""
    debug = "--debug" in arguments or bool(os.environ.get("RRID_EDGE_DEBUG"))
    warnings.filterwarnings("ignore", module=r"PIL\.")  # our own error line already reports a bad image
    register(arguments)
    try:
        app(args=arguments, prog_name="rrid-edge")
    except SystemExit as ending:  # Typer raises it after every command; its own usage errors have code 2
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except RridEdgeError as error:
        return _fail(error, arguments, debug)
    except OSError as error:
        return _fail(OutputError(f"{error.filename or 'file system'}: {error.strerror or error}"), arguments, debug)
    return 0


def _fail(error: RridEdgeError, arguments: Sequence[str], debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    ways = ways_to_set(arguments, error.parameters)
    hint = f" ({', '.join(ways)})" if ways else ""
    print(f"rrid-edge: {error.message}{hint}", file=sys.stderr)
    return error.exit_code


_UNITS = ("_px", "_mib", "_s")


def ways_to_set(arguments: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """Find the options and arguments that set these library ``parameters`` in the command in ``arguments``.

    An option sets the parameter of the same name. Units are ignored, so ``--height`` sets ``height_px``. Parameters
    that the command cannot set are skipped.

    Returns:
        For example ``["option --top-k", "argument MODEL"]``.
    """
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
    ways = []
    for parameter in parameters:
        unitless = next((parameter.removesuffix(unit) for unit in _UNITS if parameter.endswith(unit)), parameter)
        spellings = {f"--{name.replace('_', '-')}" for name in (parameter, unitless)}
        for declared in command.params:
            if not spellings & {*declared.opts, f"--{declared.name.replace('_', '-')}"}:
                continue
            is_option = declared.param_type_name == "option"
            argument_name = declared.metavar or declared.name.upper()
            ways.append(f"option {declared.opts[0]}" if is_option else f"argument {argument_name}")
    return ways
