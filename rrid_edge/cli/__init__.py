"""The command line: one Typer application, one module for each group of commands.

A command's module is imported when the command runs. Heavy packages are imported inside command bodies only. So
``--help`` is fast, and a broken extra breaks only the commands that need it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command ``rrid-edge``. See :func:`rrid_edge.cli.app.main`."""
    try:
        # Imported here, so that Ctrl-C while they are imported ends in one line.
        from rrid_edge.cli.signals import catch_signals
        from rrid_edge.cli.startup import command_in, quick_start

        command = command_in(sys.argv[1:])
        catch_signals(second_ends=command != "serve")  # the service handles a second signal itself
        with quick_start(command):
            from rrid_edge.cli.app import main as run_and_exit

            run_and_exit()
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_told(error))


def _told(error: BaseException) -> int:
    """Print the one line about a command that did not begin; returns its exit code."""
    from rrid_edge.cli.signals import end_as_asked, told_of
    from rrid_edge.errors import UnexpectedError, unforeseen
    from rrid_edge.stopping import Results

    if (stopped := told_of(error, Results())) is not None:
        print(stopped[0], file=sys.stderr)
        return end_as_asked(stopped[1])
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    print(f"rrid-edge: {unforeseen(error)}; this installation is damaged: install rrid-edge again", file=sys.stderr)
    return UnexpectedError.exit_code


__all__ = ["main"]
