"""The file for a report of an error that nobody foresaw: traceback, versions, command line. It holds no secrets."""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import os
import platform
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rrid_edge import __version__
from rrid_edge.errors import item_of, printable, unforeseen
from rrid_edge.files import PRIVATE_MODE, user_state_folder
from rrid_edge.machine.facts import TENSORRT_PACKAGES

MOST_REPORTS = 20
"""Reports that are kept. The oldest are removed."""
LONGEST_REPORT = 200_000
"""Characters of a report at most."""
_NAME = "rrid-edge-error-"
_HIDDEN = "***"
_PACKAGES = (
    "numpy", "pillow", "msgspec", "typer", "rich", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
    *TENSORRT_PACKAGES, "cuda-bindings", "torch", "torchvision", "onnx", "pymilvus", "watchfiles",
)  # fmt: skip
_SECRET_NAME = r"[\w-]*(?:token|passw(?:or)?d|secret|api[_-]?key|credential)s?[\w-]*"  # noqa: S105 - a pattern of names
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s'\"]*(?=@)")
_ASSIGNED = re.compile(rf"(?i)({_SECRET_NAME}['\"]?\s*[=:]\s*['\"]?)(?!{re.escape(_HIDDEN)})[^\s'\",;)}}]+")
_OPTION = re.compile(rf"(?i)-{{1,2}}{_SECRET_NAME}")
_IS_SECRET = re.compile(rf"(?i){_SECRET_NAME}|[\w-]*_key")
_SHORTEST_SECRET = 4
"""Shorter values of variables are not searched for: they would hide ordinary words."""


def write_report(error: BaseException, arguments: Sequence[str]) -> Path:
    """Write the report of ``error``, which only this user can read, and remove the oldest ones.

    Returns:
        The file, in ``errors/`` of the user's state folder.

    Raises:
        OSError: it cannot be written.
        OutputError: this user has no home folder, and ``XDG_STATE_HOME`` is not set.
    """
    folder = user_state_folder() / "errors"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(timezone.utc)
    path = folder / f"{_NAME}{now:%Y%m%dT%H%M%S%f}-{os.getpid()}.txt"
    text = report_text(error, arguments, now).encode("utf-8", "backslashreplace")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text)
    with contextlib.suppress(OSError):  # another process may remove them too
        for old in sorted(folder.glob(f"{_NAME}*.txt"))[:-MOST_REPORTS]:
            old.unlink()
    return path


def report_text(error: BaseException, arguments: Sequence[str], now: datetime) -> str:
    """The report as text, without secrets and control characters."""
    facts = {
        "time": now.isoformat(timespec="seconds"),
        "error": unforeseen(error),
        "item": item_of(error) or "-",
        "command": command_line(arguments),
        "rrid-edge": __version__,
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "platform": platform.platform(),
        **_versions(),
    }
    heading = "".join(f"{name:<16} {printable(value)}\n" for name, value in facts.items())
    lines = [printable(line) for line in "".join(traceback.format_exception(error)).splitlines()]
    text = redacted(f"{heading}\n" + "\n".join(lines), os.environ)
    if len(text) > LONGEST_REPORT:  # the end names the error
        text = f"{text[: LONGEST_REPORT // 2]}\n...\n{text[-LONGEST_REPORT // 2 :]}"
    return f"{text}\n"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def command_line(arguments: Sequence[str]) -> str:
    """The command as text without secrets and control characters."""
    return redacted(printable(" ".join(["rrid-edge", *without_secret_options(arguments)])), os.environ)


def without_secret_options(arguments: Sequence[str]) -> list[str]:
    """A command line with ``***`` for the value after an option such as ``--token``."""
    shown, is_secret = [], False
    for argument in arguments:
        shown.append(_HIDDEN if is_secret else argument)
        is_secret = _OPTION.fullmatch(argument) is not None
    return shown


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """``text`` with ``***`` for secrets.

    These are: the part of an address before ``@``, the value after a name such as ``token=``, and the values of
    ``environment`` whose names tell of tokens, passwords, secrets or keys.
    """
    text = _ASSIGNED.sub(rf"\1{_HIDDEN}", _IN_ADDRESS.sub(_HIDDEN, text))
    values = {value for name, value in environment.items() if _IS_SECRET.fullmatch(name)}
    values |= {part for value in values for part in value.partition(":")[::2]}  # user:password
    values |= {base64.b64encode(os.fsencode(value)).decode() for value in values}  # as HTTP carries them
    for value in sorted((printable(one) for one in values if len(one) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    return text
