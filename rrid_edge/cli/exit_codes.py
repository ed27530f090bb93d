"""Exit codes of the command line, and what they mean: for the help, the man pages and the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "done",
    1: "a check failed",
    2: "wrong use or bad input",
    3: "a package or a runtime is missing",
    4: "a model, checkpoint or gallery is damaged or does not fit",
    5: "an error that nobody foresaw",
    130: "stopped by Ctrl-C (SIGINT)",
    141: "the reader of the output has gone, for example head (SIGPIPE)",
    143: "stopped by SIGTERM, for example by docker stop, systemctl stop or kill",
}


def exit_codes_line() -> str:
    """All codes in one line, for the end of ``--help``."""
    return f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}."
