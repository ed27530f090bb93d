"""The Typer application. It turns every error into one line and an exit code."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from rrid_edge import __version__
from rrid_edge.cli.completion import INSTALLS, answer_shell, is_asked_by_shell, refuse_unknown_shell
from rrid_edge.cli.exit_codes import exit_codes_line
from rrid_edge.cli.last_net import LastNet
from rrid_edge.cli.log_lines import log_lines
from rrid_edge.cli.plain_values import read_plain_values
from rrid_edge.cli.signals import end_as_asked
from rrid_edge.cli.startup import command_in, keep_to_share
from rrid_edge.cli.terminal import plain_output, set_verbose
from rrid_edge.cli.wrapping import keep_examples_whole

_CLICK_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""Base of the errors of Typer's own Click, which newer versions of Typer keep to themselves."""


class Command(NamedTuple):
    """A command of the top level."""

    module: str
    """The module of this package that defines it."""
    summary: str
    """The first sentence of its help."""
    heading: str
    """What it is listed under."""


_NETWORKS, _MODELS, _GALLERIES, _FACTS = "Data and networks", "Models and engines", "Galleries", "Facts and help"
COMMANDS = {
    "demo-data": Command("demo", "Draw a small dataset, a gallery and query images.", _NETWORKS),
    "prepare": Command("prepare", "Convert a dataset to the RRID layout.", _NETWORKS),
    "train": Command("train", "Train RRID.", _NETWORKS),
    "evaluate": Command("evaluate", "Measure a checkpoint or a model on a dataset's test split.", _NETWORKS),
    "export": Command("export", "Export a trained network to ONNX, or an ONNX file to TensorRT.", _MODELS),
    "adopt": Command("adopt", "Make a model of a person re-ID network of another program.", _MODELS),
    "calibrate": Command("calibrate", "Write the int8 forms of a float32 ONNX model.", _MODELS),
    "engine": Command("engine", "Adopt engines that trtexec built.", _MODELS),
    "parity": Command("parity", "Check that an engine agrees with its reference.", _MODELS),
    "index": Command("index", "Bring a gallery in step with its folder of crops.", _GALLERIES),
    "embed-many": Command("embed_many", "Embed very many crops into a gallery on a Ray cluster.", _GALLERIES),
    "match": Command("match", "Rank a gallery for the person in the query images.", _GALLERIES),
    "serve": Command("serve", "Serve galleries over HTTP, with a page to search them.", _GALLERIES),
    "gallery": Command("gallery", "Inspect and maintain an index.", _GALLERIES),
    "bench": Command("bench", "Measure speed, memory and accuracy of a model on this machine.", _FACTS),
    "info": Command("inspect", "Print the facts of a model or a gallery.", _FACTS),
    "doctor": Command("doctor", "Check what this machine has and print a fix for each gap.", _FACTS),
    "help": Command("manual", "Print the help of a command, or write all of it as man pages.", _FACTS),
}
"""All commands by name, in the order of work, which `--help` follows."""


class _CommandList(TyperGroup):
    """Lists the commands without importing their modules, which would take most of the time of `--help`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer brings its own Click
        """All names, in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        """A command; where names are only listed, as completion does, one with its summary and nothing else."""
        found = super().get_command(ctx, cmd_name)
        if found is None and ctx.resilient_parsing and cmd_name in COMMANDS:
            return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name].summary)
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the names and summaries of all commands, under headings."""
        width = max(map(len, COMMANDS))
        for heading, members in itertools.groupby(COMMANDS.items(), key=lambda item: item[1].heading):
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), command.summary) for name, command in members])


PROGRAM = "rrid-edge"
app = typer.Typer(
    cls=_CommandList,
    name=PROGRAM,
    help="Person re-identification (RRID): train, export, verify, index and match.",
    epilog=f"First steps: rrid-edge demo-data demo && rrid-edge doctor\n\n{exit_codes_line()}",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        print(f"rrid-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say in full why a runtime was chosen.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options of every command. ``run`` reads ``--debug`` itself, so that it works if parsing fails."""
    set_verbose(verbose)


def register(command: str = "") -> None:
    """Import the module of ``command``. If there is no such command, import all of them."""
    # Importing and building all commands would take a seventh of the time of a match.
    chosen = [COMMANDS[command]] if command in COMMANDS else COMMANDS.values()
    for module in dict.fromkeys(item.module for item in chosen):
        importlib.import_module(f"rrid_edge.cli.{module}")


def main() -> None:
    """Run the application and exit with its code."""
    if is_asked_by_shell():
        sys.exit(answer_shell(_built_for))
    arguments = sys.argv[1:]
    hooks = contextlib.ExitStack()  # never left: what Python prints at its end is one line too
    hooks.enter_context(plain_output())
    hooks.enter_context(_net(arguments).watching())
    with _net(arguments) as net:
        keep_to_share()
        net.code = run(arguments)
    sys.exit(end_as_asked(net.code))


def run(arguments: list[str]) -> int:
    """Run the command line with ``arguments`` and return its exit code (see :mod:`rrid_edge.errors`).

    Further codes are those of shells: 130 after Ctrl-C, 143 after SIGTERM, 141 if the reader of the output has gone.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # our own error line already reports a bad image
    with plain_output(), _net(arguments) as net:
        with log_lines(command_in(arguments)):
            net.code = _call(arguments)
        sys.stdout.flush()  # a full disk is noticed here, not when Python ends
    return net.code


def _net(arguments: Sequence[str]) -> LastNet:
    debug = "--debug" in arguments or bool(os.environ.get("RRID_EDGE_DEBUG"))
    return LastNet(arguments, lambda parameters: ways_to_set(arguments, parameters), debug=debug)


def _call(arguments: list[str]) -> int:
    """Run the command without Typer's own handling of errors, which ends with code 1 after some of them."""
    if name := command_in(arguments):
        register(name)
    command = built_command()
    if INSTALLS.intersection(arguments):
        refuse_unknown_shell()
    try:
        with _parsed(command, arguments) as context:
            command.invoke(context)
    except _CLICK_ERROR as error:
        with contextlib.suppress(OSError):  # nobody reads stderr: the exit code tells
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show(file=sys.stderr)
            else:
                from rrid_edge.cli.wrong_use import wrong_use  # a command line that is right does not wait for it

                print(f"rrid-edge: {wrong_use(error, arguments, command)}", file=sys.stderr)
        return int(error.exit_code)
    except typer.Exit as ending:
        return int(ending.exit_code)
    return 0


def _parsed(command: Any, arguments: list[str]) -> Any:  # noqa: ANN401 - Typer brings its own Click
    try:
        return command.make_context(PROGRAM, list(arguments), color=False)  # colours would be shown as escapes
    except SystemExit as ending:  # Typer's options for completion end so
        raise typer.Exit(ending.code if isinstance(ending.code, int) else 0) from ending


def _built_for(name: str) -> Any:  # noqa: ANN401 - Typer brings its own Click
    """The command line of which only the command of this name, if there is one, is whole."""
    if name in COMMANDS:
        register(name)
    return built_command()


def built_command() -> Any:  # noqa: ANN401 - Typer brings its own Click
    """The command line of all commands that are registered by now."""
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
    return _built(len(app.registered_commands), sum(len(group.registered_commands) for group in groups))


@functools.lru_cache(maxsize=1)
def _built(_commands: int, _commands_of_groups: int) -> Any:  # noqa: ANN401 - as above
    # Building all commands takes 0.1 s, which programs that run many of them would pay each time.
    command = typer.main.get_command(app)
    read_plain_values(command)
    keep_examples_whole(command)
    return command


_UNITS = ("_px", "_mib", "_s")


def ways_to_set(arguments: Sequence[str], parameters: Sequence[str]) -> list[str]:
    """Find the options and arguments that set these library ``parameters`` in the command in ``arguments``.

    An option sets the parameter of the same name. Units are ignored, so ``--height`` sets ``height_px``. Parameters
    that the command cannot set are skipped.

    Returns:
        For example ``["option --top-k", "argument MODEL"]``.
    """
    command: Any = built_command()
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
