"""The image files of a folder of crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    entries, skipped = scan_images(folder)
    names = sorted(entries, key=os.fsencode)
    left_out = sorted(skipped, key=lambda item: os.fsencode(item[0]))
    return [folder / name for name in names], left_out


def scan_images(folder: Path) -> tuple[dict[str, os.DirEntry[str]], list[tuple[Path, str]]]:
    """Like :func:`walk_images`, but unsorted directory entries by their path relative to ``folder``.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    _check_folder(folder)
    # Entries instead of Path objects: 20,000 files take 0.02 s instead of 0.2 s.
    images: dict[str, os.DirEntry[str]] = {}
    skipped: list[tuple[Path, str]] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(folder / below))
        except OSError as error:
            skipped.append((folder / below, f"this folder cannot be read ({error.strerror})"))
            continue
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            # Regular files come first: telling them apart needs no system call.
            if entry.is_file(follow_symlinks=False) and _suffix(name) in IMAGE_SUFFIXES:
                images[below + name] = entry
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(f"{below}{name}/")
            elif reason := _why_skipped(entry):
                skipped.append((folder / below / name, reason))
            elif _suffix(name) in IMAGE_SUFFIXES:
                images[below + name] = entry
    return images, skipped


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
    """Why a special file or a link is skipped, or None: an image, or a file that nobody takes for an image."""
    if _suffix(entry.name) not in IMAGE_SUFFIXES:
        return "a link to a folder is not followed" if entry.is_symlink() and entry.is_dir() else None
    try:
        if entry.is_file():
            return None
        return "a broken link" if entry.is_symlink() and not Path(entry.path).exists() else "no ordinary file"
    except OSError as error:
        return f"cannot be examined ({error.strerror})"
