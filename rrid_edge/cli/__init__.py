"""The command line: one Typer application, one module for each group of commands.

The module of a command is imported when the command is run, and heavy packages inside command bodies only, so that ``--help``
costs nothing and one broken extra cannot take another command down.
"""

from __future__ import annotations

from rrid_edge.cli.app import main

__all__ = ["main"]
