"""The command line: one Typer application, one module for each group of commands.

Heavy packages are imported inside command bodies only, so that ``--help`` costs nothing and one broken extra cannot
take another command down.
"""

from __future__ import annotations

from rrid_edge.cli import bench as _bench  # noqa: F401
from rrid_edge.cli import calibrate as _calibrate  # noqa: F401
from rrid_edge.cli import demo as _demo  # noqa: F401
from rrid_edge.cli import evaluate as _evaluate  # noqa: F401
from rrid_edge.cli import export as _export  # noqa: F401
from rrid_edge.cli import gallery as _gallery  # noqa: F401
from rrid_edge.cli import index as _index  # noqa: F401
from rrid_edge.cli import inspect as _inspect  # noqa: F401
from rrid_edge.cli import match as _match  # noqa: F401
from rrid_edge.cli import parity as _parity  # noqa: F401
from rrid_edge.cli import prepare as _prepare  # noqa: F401
from rrid_edge.cli import train as _train  # noqa: F401
from rrid_edge.cli.app import main

__all__ = ["main"]
