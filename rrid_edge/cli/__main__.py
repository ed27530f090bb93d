"""``python -m rrid_edge.cli``: the command line, for launchers such as ``torchrun``."""

from __future__ import annotations

from rrid_edge.cli import main

if __name__ == "__main__":
    main()
