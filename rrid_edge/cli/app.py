"""The Typer application and the place where errors become one line and an exit code."""

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
    help="Person re-identification (RRID) from a trained network to verified deployment.",
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
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of every command. ``run`` looks for ``--debug`` itself: also where the arguments cannot be parsed."""


COMMANDS = {
    "bench": "bench",
    "calibrate": "calibrate",
    "demo-data": "demo",
    "doctor": "inspect",
    "evaluate": "evaluate",
    "export": "export",
    "gallery": "gallery",
    "index": "index",
    "info": "inspect",
    "match": "match",
    "parity": "parity",
    "prepare": "prepare",
    "train": "train",
}
"""The module of this package that each command lives in."""


def _named(arguments: Sequence[str]) -> str:
    """The command that ``arguments`` name; empty where they name none."""
    return next((item for item in arguments if not item.startswith("-")), "")


def register(arguments: Sequence[str] = ()) -> None:
    """Import the module of the command that ``arguments`` name, or those of all commands where they name none.

    A command needs no other one: importing and building them all takes a seventh of the time of a ``match``.
    """
    named = _named(arguments)
    for module in [COMMANDS[named]] if named in COMMANDS else dict.fromkeys(COMMANDS.values()):
        importlib.import_module(f"rrid_edge.cli.{module}")


def main() -> None:
    """Entry point of the command ``rrid-edge``: runs the application; errors become one line and an exit code."""
    arguments = sys.argv[1:]
    with quick_start(_named(arguments)):
        code = run(arguments)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line with ``arguments`` and return its exit code (see :mod:`rrid_edge.errors`)."""
    debug = "--debug" in arguments or bool(os.environ.get("RRID_EDGE_DEBUG"))
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with an image is said once, in one line
    register(arguments)
    try:
        app(args=arguments, prog_name="rrid-edge")
    except SystemExit as leave:  # Typer ends every command so, its own usage errors with 2
        return leave.code if isinstance(leave.code, int) else int(bool(leave.code))
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
    """Options and arguments that set these ``parameters`` of the library, in the command that ``arguments`` name.

    An option belongs to the parameter of its name; units do not count, so ``--height`` sets ``height_px``. Parameters
    that the command cannot set are passed over.

    Returns:
        For example ``["option --top-k", "argument MODEL"]``.
    """
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
    ways = []
    for parameter in parameters:
        bare = next((parameter.removesuffix(unit) for unit in _UNITS if parameter.endswith(unit)), parameter)
        spellings = {f"--{name.replace('_', '-')}" for name in (parameter, bare)}
        for one in command.params:
            if not spellings & {*one.opts, f"--{one.name.replace('_', '-')}"}:
                continue
            is_option = one.param_type_name == "option"
            ways.append(f"option {one.opts[0]}" if is_option else f"argument {one.metavar or one.name.upper()}")
    return ways
