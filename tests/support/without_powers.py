"""Runs commands as a user whom permissions bind, also where the tests run as root.

Root passes over permissions by capabilities of Linux. The process here gives them up; then it is an ordinary user, who
is not the owner of what :func:`of_another_user` gave away. Becoming another user would not do: Python itself may lie in
a folder that only root may enter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.commands import Outcome

_NOBODY = 65534
_PROGRAM = """
import ctypes, json, os, sys

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

class Words(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]

POWERS = range(4)  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER of capabilities(7)

def give_powers_up():
    libc, header, words = ctypes.CDLL(None, use_errno=True), Header(0x20080522, 0), (Words * 2)()
    for power in POWERS:
        if libc.prctl(24, power, 0, 0, 0):  # PR_CAPBSET_DROP: programs that this process starts do not get them back
            raise OSError(ctypes.get_errno(), "prctl")
    if libc.capget(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capget")
    for name in ("effective", "permitted", "inheritable"):
        setattr(words[0], name, getattr(words[0], name) & ~sum(1 << power for power in POWERS))
    if libc.capset(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capset")

if os.geteuid() == 0:
    give_powers_up()
commands = json.load(sys.stdin)
from support.commands import rrid_edge
json.dump([vars(rrid_edge(*command)) for command in commands], sys.stdout)
"""


def run_without_powers(commands: Sequence[Sequence[str | Path]], folder: Path, **variables: str) -> list[Outcome]:
    """Run commands of ``rrid-edge`` in one process without the powers of root.

    Args:
        commands: the arguments of each.
        folder: the current folder.
        variables: of the environment.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode and "OSError" in done.stderr:
        pytest.skip(f"this machine lets root give no power up: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return [Outcome(**facts) for facts in json.loads(done.stdout)]


def of_another_user(path: Path, *, readable: bool = True) -> None:
    """Let a file or a folder with all that is in it be that of another user: not writable, or not readable either.

    Where the tests do not run as root, the owner stays, and only the permissions change.
    """
    for one in (*path.rglob("*"), path):
        if one.is_symlink():
            continue
        if os.geteuid() == 0:
            os.chown(one, _NOBODY, _NOBODY)
        one.chmod((0o555 if one.is_dir() else 0o444) if readable else 0)


def of_this_user(path: Path) -> None:
    """Undo :func:`of_another_user`."""
    for one in (path, *sorted(path.rglob("*"))):
        if os.geteuid() == 0:
            os.chown(one, 0, 0)
        one.chmod(0o755 if one.is_dir() else 0o644)
