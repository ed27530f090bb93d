"""What ``doctor`` says of the folder of compiled models."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from rrid_edge.engines.compiled_cache import ENVIRONMENT_VARIABLE, LARGEST_BYTES
from rrid_edge.machine.gpu_findings import Finding
from rrid_edge.machine.memory import GIB
from rrid_edge.machine.surroundings import nearest_folder

_OFF = f"none is kept: each start compiles the model ({ENVIRONMENT_VARIABLE}=off, or no home folder)"


def cache_finding(folder: Path | None) -> Finding:
    """Place, size and use of the cache. Without a folder that can be written, every start compiles the model.

    Args:
        folder: see :func:`rrid_edge.engines.compiled_cache.cache_folder`; None if none is kept.
    """
    if folder is None:
        return Finding("cache", "ok", _OFF)
    size, place = _size_bytes(folder), nearest_folder(folder)
    detail = f"{folder}: {size / 1e6:.0f} MB of at most {LARGEST_BYTES / GIB:.0f} GiB"
    if folder.exists() and not folder.is_dir():
        return Finding("cache", "problem", f"{folder} is no folder", f"rm {shlex.quote(str(folder))}")
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = f"export {ENVIRONMENT_VARIABLE}=FOLDER, one that you may write; or off"
        return Finding("cache", "note", f"{detail}; {place} cannot be written: each start compiles the model", remedy)
    return Finding("cache", "ok", detail if folder.exists() else f"{folder}: made with the first model")


def _size_bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total
