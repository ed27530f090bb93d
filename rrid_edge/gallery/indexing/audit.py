"""The audit log: one line per forget, unforget, export, copy and retention. It holds no pictures and no names.

The service writes a line for what people do through it, too (:mod:`rrid_edge.serve.audit_lines`).

A gallery in a folder has ``audit.jsonl`` in its index folder. For a gallery on a server, and for one that this user may
not write, it is ``$XDG_STATE_HOME/rrid-edge/audit.jsonl`` (``~/.local/state``) on the machine that ran the command.
A log of 10 MiB is rotated: ``audit.jsonl.1`` to ``.5`` are the older ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

from rrid_edge.errors import OutputError, printable
from rrid_edge.files import user_state_folder
from rrid_edge.gallery.indexing.audit_file import append_line
from rrid_edge.gallery.local.catalogue import FILE_NAME
from rrid_edge.gallery.opening import Location
from rrid_edge.json_text import json_text

AUDIT_FILE = "audit.jsonl"
Fact = int | float | str | bool | None


def user_audit_file() -> Path:
    """The audit log of this user, for galleries that hold none themselves."""
    return user_state_folder() / AUDIT_FILE


def audit(
    location: Location | None, command: str, *, ids: Sequence[int] = (), durable: bool = True, **facts: Fact
) -> Path:
    """Append a line to the audit log of a gallery.

    Args:
        location: of the gallery; None for what concerns none, such as a login: the user's log gets the line.
        command: what was done, such as ``forget``.
        ids: of the rows.
        durable: wait until the line is on the disk.
        facts: further facts, such as counts.

    Returns:
        The file that was written.

    Raises:
        OutputError: neither log can be written.
    """
    moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    told = {"time": moment, "command": command, "gallery": _shown(location), **facts, "ids": list(ids)}
    line = (json_text(told) + "\n").encode("utf-8")
    failure: OSError | None = None
    for file in _files(location):
        try:
            if file.parent != location:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            append_line(file, line, _mode(file), durable=durable)
        except OSError as error:
            failure = error
        else:
            return file
    raise OutputError(
        f"{printable(user_audit_file())}: the audit log cannot be written ({failure}); make it writable, or set "
        "XDG_STATE_HOME to a writable folder"
    ) from failure


def _shown(location: Location | None) -> str | None:
    if not isinstance(location, Path):
        return None if location is None else str(location)
    return _shown_folder(location) if location.is_absolute() else printable(location.resolve())


@lru_cache(maxsize=64)
def _shown_folder(folder: Path) -> str:
    """The resolved folder. A service writes a line per search, and resolving takes longer than writing."""
    return printable(folder.resolve())


def _files(location: Location | None) -> Iterator[Path]:
    """The logs to try. A user without a home folder needs none if the gallery's own log can be written."""
    if isinstance(location, Path):
        yield location / AUDIT_FILE
    yield user_audit_file()


def _mode(file: Path) -> int:
    """Permissions of a new log. A log in an index folder is as private as its catalogue."""
    catalogue = file.with_name(FILE_NAME)
    return catalogue.stat().st_mode & 0o666 if catalogue.exists() else 0o600
