"""The command line: one Typer application, one module for each group of commands.

A command's module is imported when the command runs. Heavy packages are imported inside command bodies only. So
``--help`` is fast, and a broken extra breaks only the commands that need it.
"""

from __future__ import annotations

from rrid_edge.cli.app import main

__all__ = ["main"]
