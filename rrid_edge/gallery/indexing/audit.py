"""The audit log: one line per forget, unforget, export, copy and retention. It holds no pictures and no names.

A gallery in a folder has ``audit.jsonl`` in its index folder. For a gallery on a server, and for one that this user may
not write, it is ``$XDG_STATE_HOME/rrid-edge/audit.jsonl`` (``~/.local/state``) on the machine that ran the command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rrid_edge.errors import OutputError, printable
from rrid_edge.files import user_state_folder
from rrid_edge.gallery.local.catalogue import FILE_NAME
from rrid_edge.gallery.opening import Location
from rrid_edge.json_text import json_text

AUDIT_FILE = "audit.jsonl"


def user_audit_file() -> Path:
    """The audit log of this user, for galleries that hold none themselves."""
    return user_state_folder() / AUDIT_FILE


def audit(location: Location, command: str, *, ids: Sequence[int] = (), **counts: int | str | bool | None) -> Path:
    """Append a line to the audit log of a gallery.

    Args:
        location: of the gallery.
        command: what was done, such as ``forget``.
        ids: of the rows.
        counts: further facts.

    Returns:
        The file that was written.

    Raises:
        OutputError: neither log can be written.
    """
    moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
    where = printable(location.resolve()) if isinstance(location, Path) else str(location)
    facts = {"time": moment, "command": command, "gallery": where, **counts, "ids": list(ids)}
    line = (json_text(facts) + "\n").encode("utf-8")
    failure: OSError | None = None
    for file in _files(location):
        try:
            if file.parent != location:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _append(file, line)
        except OSError as error:
            failure = error
        else:
            return file
    raise OutputError(
        f"{printable(user_audit_file())}: the audit log cannot be written ({failure}); make it writable, or set "
        "XDG_STATE_HOME to a writable folder"
    ) from failure


def _files(location: Location) -> Iterator[Path]:
    """The logs to try. A user without a home folder needs none if the gallery's own log can be written."""
    if isinstance(location, Path):
        yield location / AUDIT_FILE
    yield user_audit_file()


def _append(file: Path, line: bytes) -> None:
    """Append a line in one write, and sync it. A log in an index folder is as private as its catalogue."""
    catalogue = file.with_name(FILE_NAME)
    mode = catalogue.stat().st_mode & 0o666 if catalogue.exists() else 0o600
    is_new = not file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        if is_new:
            os.fchmod(descriptor, mode)  # the umask of a shared gallery must not narrow it
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
