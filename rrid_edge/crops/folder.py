"""The image files of a folder of crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from rrid_edge.errors import FolderUnavailableError, UsageError, printable

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


def list_images(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by path; :func:`walk_images` also returns what was skipped.

    Raises:
        UsageError: no such folder.
    """
    return walk_images(folder)[0]


def walk_images(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Image files below a folder, sorted by the bytes of their paths, and skipped entries with the reason.

    Files are chosen by their suffix. Hidden files and folders are ignored silently. Links to folders are skipped,
    because they can form loops. Special files (pipes, devices, sockets) are skipped.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    found = scan_images(folder)
    names = sorted(found.entries, key=os.fsencode)
    left_out = sorted(found.skipped, key=lambda item: os.fsencode(item[0]))
    return [folder / name for name in names], left_out


@dataclass(frozen=True)
class FolderScan:
    """The image files of a folder.

    Attributes:
        entries: directory entries of the image files, unsorted, by their path relative to the folder.
        skipped: entries that were not taken, with the reason.
        unlisted: sub-folders that could not be listed, as relative paths with a final ``/``; the empty text is the
            folder itself. Files in them may exist.
        unexamined: relative paths of files of which the system could not tell what they are. They may exist.
    """

    entries: dict[str, os.DirEntry[str]]
    skipped: tuple[tuple[Path, str], ...] = ()
    unlisted: tuple[str, ...] = ()
    unexamined: frozenset[str] = frozenset()

    def may_hold(self, path: str) -> bool:
        """Whether a file may exist although it is not among ``entries``: it, or a folder of it, was not examined."""
        return path in self.unexamined or path.startswith(self.unlisted)


def scan_images(folder: Path) -> FolderScan:
    """The image files below a folder, unsorted; :func:`walk_images` says which files are taken.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    _check_folder(folder)
    # Entries instead of Path objects: 20,000 files take 0.02 s instead of 0.2 s.
    images: dict[str, os.DirEntry[str]] = {}
    skipped: list[tuple[Path, str]] = []
    unlisted: list[str] = []
    unexamined: set[str] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as listing:
                entries = list(listing)
        except OSError as error:
            skipped.append((folder / below, f"this folder cannot be read ({error.strerror})"))
            unlisted.append(below)
            continue
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            try:
                # Regular files come first: telling them apart needs no system call.
                if entry.is_file(follow_symlinks=False) and _suffix(name) in IMAGE_SUFFIXES:
                    images[below + name] = entry
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{below}{name}/")
                elif reason := _why_skipped(entry):
                    skipped.append((folder / below / name, reason))
                elif _suffix(name) in IMAGE_SUFFIXES:
                    images[below + name] = entry
            except OSError as error:
                skipped.append((folder / below / name, f"cannot be examined ({error.strerror})"))
                unexamined.add(below + name)
                unlisted.append(f"{below}{name}/")  # it may be a folder
    return FolderScan(images, tuple(skipped), tuple(unlisted), frozenset(unexamined))


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise FolderUnavailableError(f"{printable(folder)}: no such folder; give a folder of image files")
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)}: this is a file, not a folder; give a folder of image files")


class LazyPaths(Sequence[Path]):
    """A sequence of paths that are created on access, because a path takes ten times the memory of its name.

    Args:
        folder: folder of all paths.
        names: paths relative to it.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> LazyPaths: ...

    def __getitem__(self, index: int | slice) -> Path | LazyPaths:
        if isinstance(index, slice):
            return LazyPaths(self._folder, self._names[index])
        return self._folder / self._names[index]


def _suffix(name: str) -> str:
    """The last suffix of a file name, in lower case, with its dot."""
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""


def _why_skipped(entry: os.DirEntry[str]) -> str | None:
    """Why a special file or a link is skipped, or None: an image, or a file that nobody takes for an image.

    Raises:
        OSError: the system cannot tell what the entry is.
    """
    if _suffix(entry.name) not in IMAGE_SUFFIXES:
        return "a link to a folder is not followed" if entry.is_symlink() and entry.is_dir() else None
    if entry.is_file():
        return None
    if not entry.is_symlink():
        return "no ordinary file"
    try:
        Path(entry.path).stat()
    except FileNotFoundError:
        return "a broken link"
    return "no ordinary file"
