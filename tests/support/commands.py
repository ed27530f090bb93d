"""Runs the command line in this process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from rrid_edge.cli.app import run


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def rrid_edge(*arguments: object) -> Outcome:
    """Run ``rrid-edge`` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """Assert an error as users should see it: the exit code, one last line with ``words`` on stderr, no traceback."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("rrid-edge: "), outcome.err
    for word in words:
        assert word in last, last
