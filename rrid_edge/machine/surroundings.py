"""What surrounds a process: free space, open files, watched folders, the clock, and signs that somebody trains here."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from rrid_edge.machine.cgroups import SYSTEM
from rrid_edge.machine.gpu_findings import Finding
from rrid_edge.machine.memory import GIB

FILES_OF_INDEX = 64
"""Open files below which ``index`` and ``match`` may fail. They had 15 open on two cores."""
FILES_OF_SERVE = 1024
"""Open files of a service with all of its 900 connections and some galleries. With one gallery it had 22 open."""
_LEAST_FREE_BYTES = GIB // 4
_ENOUGH_FREE_BYTES = 2 * GIB
_LEAST_FREE_INODES = 1000
_ENOUGH_WATCHES = 8192
_EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc)
_MOST_LISTED = 1000


@dataclass(frozen=True)
class Disk:
    """The file system of a folder.

    Attributes:
        path: the folder, or the nearest one above it that exists.
        device: number of the file system; equal for two folders on one.
        size_bytes: its size.
        free_bytes: what this user may still write.
        free_inodes: files that may still be made; None where the file system does not count them.
    """

    path: Path
    device: int
    size_bytes: int
    free_bytes: int
    free_inodes: int | None

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """The file system of a folder that may not exist yet.

        Raises:
            OSError: it cannot be asked.
        """
        path = nearest_folder(folder)
        facts = os.statvfs(path)
        inodes = facts.f_favail if facts.f_files else None
        return cls(path, path.stat().st_dev, facts.f_blocks * facts.f_frsize, shutil.disk_usage(path).free, inodes)


@dataclass(frozen=True)
class Limits:
    """Limits of this process and its user.

    Attributes:
        open_files: soft and hard limit of open files; None where the system has none to tell.
        watched_folders: folders that one user may watch; None if it is not Linux.
    """

    open_files: tuple[int, int] | None
    watched_folders: int | None = None

    @classmethod
    def here(cls, system: Path = SYSTEM) -> Limits:
        """The limits of this process."""
        try:
            import resource  # does not exist on Windows
        except ImportError:
            return cls(None)
        watches = None
        with suppress(OSError, ValueError):
            watches = int((system / "proc/sys/fs/inotify/max_user_watches").read_text())
        soft, hard = (
            (1 << 63) if limit == resource.RLIM_INFINITY else limit
            for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
        )
        return cls((soft, hard), watches)


def nearest_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - links are not followed
    return next((place for place in (absolute, *absolute.parents) if place.is_dir()), Path("/"))


def read_disks(cache: Path | None) -> list[Disk]:
    """The file systems of the working folder, the cache folder and the folder of temporary files, each once."""
    disks: dict[int, Disk] = {}
    for folder in (Path(), cache, Path(tempfile.gettempdir())):
        with suppress(OSError):
            disk = Disk.of(folder) if folder is not None else None
            if disk is not None and disk.size_bytes:  # /proc and its like have none
                disks.setdefault(disk.device, disk)
    return list(disks.values())


def disk_findings(disks: list[Disk]) -> list[Finding]:
    """A finding for each file system: how much is free."""
    return [_disk(disk) for disk in disks]


def _disk(disk: Disk) -> Finding:
    detail = f"{disk.path}: {disk.free_bytes / GIB:.1f} of {disk.size_bytes / GIB:.1f} GiB free"
    remedy = f"du -xh -d 2 {shlex.quote(str(disk.path))} | sort -h | tail"
    if disk.free_inodes is not None and disk.free_inodes < _LEAST_FREE_INODES:
        return Finding("disk", "problem", f"{detail}, but room for {disk.free_inodes} files only", remedy)
    if disk.free_bytes < _LEAST_FREE_BYTES:
        return Finding("disk", "problem", f"{detail}: too little for an index or a compiled model", remedy)
    if disk.free_bytes < _ENOUGH_FREE_BYTES:
        return Finding("disk", "note", f"{detail}: compiled models alone may take 2 GiB", remedy)
    return Finding("disk", "ok", detail)


def limit_findings(limits: Limits, *, watches: bool) -> list[Finding]:
    """Findings on open files and watched folders.

    Args:
        limits: of this process.
        watches: the package that follows folders is installed.
    """
    findings = []
    if limits.open_files is not None:
        findings.append(_open_files(*limits.open_files))
    if watches and limits.watched_folders is not None and limits.watched_folders < _ENOUGH_WATCHES:
        detail = f"{limits.watched_folders:,} folders may be watched, and following crops takes one per folder"
        findings.append(Finding("watches", "note", detail, "sudo sysctl fs.inotify.max_user_watches=524288"))
    return findings


def _open_files(soft: int, hard: int) -> Finding:
    wanted = min(4 * FILES_OF_SERVE, hard)
    remedy = f"ulimit -n {wanted}" if wanted > soft else "raise the hard limit, for systemd: LimitNOFILE=4096"
    if soft < FILES_OF_INDEX:
        detail = f"{soft:,} may be open: index and match need {FILES_OF_INDEX}"
        return Finding("open files", "problem", detail, remedy)
    if soft < FILES_OF_SERVE:
        detail = f"{soft:,} may be open: enough for index; serve with all connections needs {FILES_OF_SERVE:,}"
        return Finding("open files", "note", detail, remedy)
    return Finding("open files", "ok", "no limit" if soft >= 1 << 62 else f"{soft:,} may be open")


def clock_finding(now: datetime) -> Finding:
    """Whether the clock can be right: a board without a battery starts in the past, and dates crops wrongly."""
    told = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < _EARLIEST:
        detail = f"{told} is in the past: times of crops, spans such as 2h and retention will be wrong"
        return Finding("clock", "problem", detail, "sudo timedatectl set-ntp true")
    return Finding("clock", "ok", told)


def training_sign(folder: Path) -> str:
    """What shows that somebody trains in a folder: a checkpoint, a run or a dataset; empty if nothing does.

    Only names are looked at, in the folder and two levels below it.
    """
    for place in (folder, *_folders(folder), *_folders(folder / "runs")):
        for checkpoint in ("last.safetensors", "best.safetensors"):
            if (place / checkpoint).is_file():
                return f"the checkpoint {place / checkpoint} is here"
        if (place / "bounding_box_train").is_dir() or all(
            (place / name).is_file() for name in ("meta.json", "splits.json")
        ):
            return "this folder is a dataset" if place == folder else f"the dataset {place} is here"
    return ""


def _folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from sorted(Path(entry.path) for entry in itertools.islice(entries, _MOST_LISTED) if entry.is_dir())
