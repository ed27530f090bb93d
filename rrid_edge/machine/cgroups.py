"""The control groups of this process: limits that a container, Kubernetes or systemd sets on cores and memory.

Both versions of cgroups are read, and mixtures of them. A limit of a group holds for all groups in it, so the folders
of all groups around this process's own are examined. What cannot be read or understood sets no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SYSTEM = Path("/")
"""Where ``/proc`` and ``/sys`` lie. Tests give another folder."""


@dataclass(frozen=True)
class Group:
    """One control group.

    Attributes:
        version: 1 or 2; the names of files differ.
        folder: with the group's files.
    """

    version: int
    folder: Path

    def text(self, name: str) -> str:
        """The content of a file; empty if it cannot be read."""
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """The whole number in a file; None if there is none, for example ``max``."""
        return whole_number(self.text(name))

    def statistic(self, name: str, key: str) -> int:
        """The number after ``key`` in a file of one key per line; 0 if it is not there."""
        found = re.search(rf"^{re.escape(key)} (\d{{1,20}})$", self.text(name), re.MULTILINE)
        return int(found[1]) if found else 0


def whole_number(text: str) -> int | None:
    """A number of at most 20 digits, or None."""
    return int(text) if re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else None


def groups(controller: str, system: Path = SYSTEM) -> list[Group]:
    """This process's groups of a controller (``cpu``, ``memory``), each with those around it, innermost first."""
    found: dict[Group, None] = {}
    paths = list(_paths(controller, system))
    for version, root, mount_point in _mounts(controller, system):
        for at_version, path in paths:
            if at_version == version:
                top = system / mount_point.relative_to("/")
                found.update({Group(version, folder): None for folder in _upwards(top, path, root)})
    return list(found)


def _paths(controller: str, system: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """Version and path of this process's groups, as the kernel names them."""
    for line in _lines(system / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif controller in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(controller: str, system: Path) -> Iterator[tuple[int, PurePosixPath, PurePosixPath]]:
    """Version, mounted part and mount point of the control groups' file systems."""
    for line in _lines(system / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(" "), kind.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        root, mount_point = (PurePosixPath(_unescaped(field)) for field in fields[3:5])
        if not mount_point.is_absolute():
            continue
        if kinds[0] == "cgroup2":
            yield 2, root, mount_point
        elif kinds[0] == "cgroup" and controller in kinds[-1].split(","):
            yield 1, root, mount_point


def _upwards(top: Path, path: PurePosixPath, root: PurePosixPath) -> Iterator[Path]:
    """The folder of a group and of all groups around it that are mounted.

    Args:
        top: where the part is mounted.
        path: the group's.
        root: the part of the tree that is mounted; a container sees its own part only.
    """
    within = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
    if ".." in within.parts:  # a group outside of what this process sees
        within = PurePosixPath()
    for parent in (within, *within.parents):
        yield top / parent


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
