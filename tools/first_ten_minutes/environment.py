"""The environment of a walk: ``rrid-edge`` with chosen extras and nothing else, and no setting of the user."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROOMS = ("", "train", "export", "calib")


def variables(programs: Path, home: Path) -> dict[str, str]:
    """Environment variables for a command: ``rrid-edge`` from ``programs``, and an empty home."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "RRID_EDGE_CACHE": "off",  # nothing is measured, whatever the processor
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def programs_of_suite(root: Path, folder: Path, *extras: str) -> Path:
    """Make a folder with a program ``rrid-edge`` that runs the sources with the packages of some extras only.

    The packages are links to those of this interpreter. All others, such as PyTorch, are truly absent.

    Returns:
        The folder for ``PATH``.
    """
    library, programs = folder / "library", folder / "bin"
    library.mkdir(parents=True)
    programs.mkdir()
    for name in _closure(root, extras or ("cpu",)):
        _link(importlib.metadata.distribution(name), library)
    path = os.pathsep.join([str(library), *(str(root / room) for room in _ROOMS)])
    # Python without its module "site" does not see its own packages.
    call = f'PYTHONPATH={shlex.quote(path)} exec {shlex.quote(sys.executable)} -S -m rrid_edge.cli "$@"'
    (programs / "rrid-edge").write_text(f"#!/bin/sh\n{call}\n")
    (programs / "rrid-edge").chmod(0o755)
    return programs


def _closure(root: Path, extras: Sequence[str]) -> list[str]:
    """Names of the distributions that ``rrid-edge[EXTRAS]`` needs on this machine, without itself."""
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for extra in extras for text in _own(project, extra)]
    found: dict[str, frozenset[str]] = {}
    while waiting:
        requirement = waiting.pop()
        name, asked = _plain(requirement.name), frozenset(requirement.extras)
        if name in found and asked <= found[name]:
            continue
        found[name] = found.get(name, frozenset()) | asked
        waiting += _needed(name, found[name])
    return sorted(found)


def _own(project: dict[str, list[str]], extra: str) -> Iterator[str]:
    """Requirements of the project and one extra. An extra may name others of the same project."""
    from packaging.requirements import Requirement

    optional: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    for text in [*project["dependencies"], *optional[extra]]:
        requirement = Requirement(text)
        if _plain(requirement.name) == "rrid-edge":
            for other in requirement.extras:
                yield from _own({**project, "dependencies": []}, other)
        elif requirement.marker is None or requirement.marker.evaluate():
            yield text


def _needed(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    from packaging.requirements import Requirement

    for text in importlib.metadata.distribution(name).requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link(distribution: importlib.metadata.Distribution, library: Path) -> None:
    parts = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for part in parts:
        source = Path(str(distribution.locate_file(part)))
        if source.exists() and not (library / part).exists():
            (library / part).symlink_to(source)
