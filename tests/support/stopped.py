"""Runs a command in a process of its own, and sends it signals at a chosen moment of its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MARK = "the moment has come"
_PROGRAM = """
import hashlib, pkgutil, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background, where it is ignored
place, number = {place!r}, {number}
owner, _, name = place.rpartition(".")
owner = pkgutil.resolve_name(owner)
real, calls = getattr(owner, name), []

def paused(*arguments, **names):
    calls.append(1)
    if len(calls) == number:
        print({mark!r}, file=sys.stderr, flush=True)
        {wait}
    return real(*arguments, **names)

setattr(owner, name, paused)
from rrid_edge.cli import main
sys.argv = ["rrid-edge", *{arguments!r}]
main()
"""
_IN_PYTHON = "time.sleep(10)"
_IN_NATIVE_CODE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes in one call, without the GIL


@dataclass(frozen=True)
class Moment:
    """When a command is stopped.

    Attributes:
        place: full name of a function that the command's main thread calls.
        number: the call at whose start the signals come, from 1.
        is_native: the call is in native code, where Python runs no handler.
    """

    place: str
    number: int = 1
    is_native: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code or minus the signal, what was printed, and what came after the signal."""

    code: int
    out: str
    after: list[str]


def stopped(
    arguments: Sequence[object], moment: Moment, signals: Sequence[signal.Signals] = (signal.SIGINT,), *, folder: Path
) -> Ended:
    """Run ``rrid-edge`` in ``folder`` until a moment, and send it signals, half a second apart, to its whole group."""
    program = _PROGRAM.format(
        place=moment.place,
        number=moment.number,
        mark=_MARK,
        wait=_IN_NATIVE_CODE if moment.is_native else _IN_PYTHON,
        arguments=[str(argument) for argument in arguments],
    )
    roots = [path for path in sys.path if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        before: list[str] = []
        for line in process.stderr:
            if line.strip() == _MARK:
                break
            before.append(line)
        else:
            raise AssertionError(f"the command ended before the moment: {before}")
        for number in signals:
            os.killpg(process.pid, number)
            time.sleep(0.5)
        out, after = process.communicate(timeout=60)
    assert "Traceback" not in after, after
    assert not list(folder.rglob(".rrid-edge-*.partial"))
    return Ended(process.returncode, out, after.splitlines())
