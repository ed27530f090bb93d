"""The Typer application. It turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from rrid_edge import __version__
from rrid_edge.cli.startup import quick_start
from rrid_edge.errors import OutputError, RridEdgeError


class Command(NamedTuple):
    """A command of the top level."""

    module: str
    """The module of this package that defines it."""
    summary: str
    """The first sentence of its help."""


COMMANDS = {
    "demo-data": Command("demo", "Draw a small dataset, a gallery and query images."),
    "prepare": Command("prepare", "Convert a dataset to the RRID layout."),
    "train": Command("train", "Train RRID."),
    "evaluate": Command("evaluate", "Measure a checkpoint or a model on a dataset's test split."),
    "export": Command("export", "Export a trained network to ONNX, or an ONNX file to TensorRT."),
    "calibrate": Command("calibrate", "Write the int8 form of a float32 ONNX model."),
    "parity": Command("parity", "Check that an engine agrees with its reference."),
    "index": Command("index", "Bring a gallery in step with its folder of crops."),
    "match": Command("match", "Rank a gallery for the person in the query images."),
    "gallery": Command("gallery", "Inspect and maintain an index."),
    "bench": Command("bench", "Measure speed, memory and accuracy of a model on this machine."),
    "info": Command("inspect", "Print the facts of a model: input size, precision, fingerprint."),
    "doctor": Command("inspect", "Check what this machine has and print a fix for each gap."),
}
"""All commands by name, in the order of work, which `--help` follows."""


class _CommandList(TyperGroup):
    """Lists the commands without importing their modules, which would take most of the time of `--help`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer brings its own Click
        """Write the names and summaries of all commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


app = typer.Typer(
    cls=_CommandList,
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


def _command_in(arguments: Sequence[str]) -> str:
    """The command in ``arguments``; empty if there is none."""
    return next((item for item in arguments if not item.startswith("-")), "")


def register(command: str = "") -> None:
    """Import the module of ``command``. If there is no such command, import all of them."""
    # Importing and building all commands would take a seventh of the time of a match.
    chosen = [COMMANDS[command]] if command in COMMANDS else COMMANDS.values()
    for module in dict.fromkeys(item.module for item in chosen):
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
    if command := _command_in(arguments):
        register(command)
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
