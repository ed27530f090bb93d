"""The command line: one Typer application, one module for each group of commands.

A command's module is imported when the command runs. Heavy packages are imported inside command bodies only. So
``--help`` is fast, and a broken extra breaks only the commands that need it.
"""

from __future__ import annotations

import sys
import traceback

from rrid_edge.cli.startup import command_in, quick_start
from rrid_edge.errors import UnexpectedError, unforeseen


def main() -> None:
    """Entry point of the command ``rrid-edge``. See :func:`rrid_edge.cli.app.main`."""
    with quick_start(command_in(sys.argv[1:])):
        _main()


def _main() -> None:
    try:
        from rrid_edge.cli.app import main as run_and_exit
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"rrid-edge: {unforeseen(error)}; this installation is damaged: install rrid-edge again", file=sys.stderr)
        sys.exit(UnexpectedError.exit_code)
    run_and_exit()


__all__ = ["main"]
