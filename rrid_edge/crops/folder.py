"""The image files of a folder of crops."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from rrid_edge.errors import FolderUnavailableError, UsageError, printable
from rrid_edge.file_kinds import no_such

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Endings of the files that every reader of this package takes for images, in lower case."""
_LONGEST_ENDING = 16
_MOST_ENDINGS = 8


def is_image_name(name: str) -> bool:
    """Whether the readers of this package take a file of this name for an image, by its ending in any letter case."""
    return ending_of(name) in IMAGE_SUFFIXES


def ending_of(name: str) -> str:
    """The last suffix of a file name, in lower case, with its dot; an empty text if it has none."""
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""


def describe_endings(counts: Mapping[str, int]) -> str:
    """One line about files that were left out because of their endings; an empty text if there are none.

    Example: ``left out: 12 files with other endings (.heic 9, .avif 3)``.

    Args:
        counts: number of files by ending, as :func:`ending_of` gives it.
    """
    total = sum(counts.values())
    if not total:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{_shown(ending)} {count}" for ending, count in ordered[:_MOST_ENDINGS]]
    rest = ordered[_MOST_ENDINGS:]
    shown += [f"{len(rest)} more endings {sum(count for _, count in rest)}"] if rest else []
    return f"left out: {total} file{'s' * (total > 1)} with other endings ({', '.join(shown)})"


def _shown(ending: str) -> str:
    if not ending:
        return "none"
    text = printable(ending if len(ending) <= _LONGEST_ENDING else ending[:_LONGEST_ENDING] + "...")
    return f"{text!r}" if text != text.strip() or "," in text or ")" in text else text


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a folder, and what was left out.

    Attributes:
        paths: of the image files, sorted by their bytes.
        skipped: entries that were not taken, with the reason.
        endings: number of other files, by their ending.
        outside: links that were not followed, because they lead out of the folder.
    """

    paths: list[Path]
    skipped: tuple[tuple[Path, str], ...] = ()
    endings: Mapping[str, int] = field(default_factory=dict)
    outside: tuple[Path, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, one line each."""
        named = (f"left out {printable(path)}: {reason}" for path, reason in self.skipped)
        counted = (describe_outside(list(map(str, self.outside))), describe_endings(self.endings))
        return (*named, *filter(None, counted))


def describe_outside(paths: Sequence[str]) -> str:
    """One line about links that lead out of their folder; an empty text if there are none."""
    if not paths:
        return ""
    first = f"{printable(paths[0])}" + " and others" * (len(paths) > 1)
    return f"left out: {len(paths)} link{'s' * (len(paths) > 1)} to files outside the folder ({first})"


def list_images(folder: Path, *, follow_links: bool = False) -> list[Path]:
    """All image files below a folder, sorted by path; :func:`find_images` also returns what was left out.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    return find_images(folder, follow_links=follow_links).paths


def find_images(folder: Path, *, follow_links: bool = False) -> ImageFiles:
    """Image files below a folder, and what was left out.

    Files are chosen by their ending. Hidden files and folders are ignored silently. Links to folders are skipped,
    because they can form loops. Special files (pipes, devices, sockets) are skipped.

    Args:
        folder: with its sub-folders.
        follow_links: take links to image files outside the folder too.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    found = scan_images(folder, follow_links=follow_links)
    return ImageFiles(
        [folder / name for name in sorted(found.entries, key=os.fsencode)],
        tuple(sorted(found.skipped, key=lambda item: os.fsencode(item[0]))),
        found.endings,
        tuple(folder / name for name in sorted(found.outside, key=os.fsencode)),
    )


@dataclass(frozen=True)
class FolderScan:
    """The image files of a folder.

    Attributes:
        entries: directory entries of the image files, unsorted, by their path relative to the folder.
        skipped: entries that were not taken, with the reason.
        unlisted: sub-folders that could not be listed, as relative paths with a final ``/``; the empty text is the
            folder itself. Files in them may exist.
        unexamined: relative paths of files of which the system could not tell what they are. They may exist.
        endings: number of files that were left out because of their ending, by that ending in lower case.
        outside: relative paths of links that were not followed, because they lead out of the folder.
    """

    entries: dict[str, os.DirEntry[str]]
    skipped: tuple[tuple[Path, str], ...] = ()
    unlisted: tuple[str, ...] = ()
    unexamined: frozenset[str] = frozenset()
    endings: Mapping[str, int] = field(default_factory=dict)
    outside: frozenset[str] = frozenset()

    def may_hold(self, path: str) -> bool:
        """Whether a file may exist although it is not among ``entries``: it, or a folder of it, was not examined."""
        return path in self.unexamined or path in self.outside or path.startswith(self.unlisted)


def scan_images(folder: Path, *, follow_links: bool = False) -> FolderScan:
    """The image files below a folder, unsorted; :func:`find_images` says which files are taken.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    _check_folder(folder)
    return _Scanner(folder, follow_links=follow_links).scan()


class _Scanner:
    """Collects the image files of a folder."""

    def __init__(self, folder: Path, *, follow_links: bool) -> None:
        self._folder, self._follow_links = folder, follow_links
        self._root = _root_of(folder)
        # Entries instead of Path objects: 20,000 files take 0.02 s instead of 0.2 s.
        self._images: dict[str, os.DirEntry[str]] = {}
        self._skipped: list[tuple[Path, str]] = []
        self._unlisted: list[str] = []
        self._unexamined: set[str] = set()
        self._endings: Counter[str] = Counter()
        self._outside: set[str] = set()

    def scan(self) -> FolderScan:
        """List the folder and its sub-folders."""
        folder, waiting = self._folder, [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(folder / below) as listing:
                    entries = list(listing)
            except OSError as error:
                self._skipped.append((folder / below, f"this folder cannot be read ({error.strerror})"))
                self._unlisted.append(below)
                continue
            for entry in entries:
                name = entry.name
                if name[0] == ".":
                    continue
                try:
                    # Regular files come first: telling them apart needs no system call.
                    if entry.is_file(follow_symlinks=False):
                        self._take(below + name, entry)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{below}{name}/")
                    else:
                        self._take_special(below + name, entry)
                except OSError as error:
                    self._skipped.append((folder / below / name, f"cannot be examined ({error.strerror})"))
                    self._unexamined.add(below + name)
                    self._unlisted.append(f"{below}{name}/")  # it may be a folder
        return FolderScan(
            self._images,
            tuple(self._skipped),
            tuple(self._unlisted),
            frozenset(self._unexamined),
            dict(self._endings),
            frozenset(self._outside),
        )

    def _take(self, path: str, entry: os.DirEntry[str]) -> None:
        """Take or count a file."""
        ending = ending_of(entry.name)
        if ending in IMAGE_SUFFIXES:
            self._images[path] = entry
        else:
            self._endings[ending] += 1

    def _take_special(self, path: str, entry: os.DirEntry[str]) -> None:
        """Take, count or skip a link or a special file.

        Raises:
            OSError: the system cannot tell what the entry is.
        """
        if entry.is_symlink() and entry.is_dir():
            self._skipped.append((self._folder / path, "a link to a folder is not followed"))
        elif not is_image_name(entry.name):
            self._endings[ending_of(entry.name)] += 1
        elif not entry.is_file():
            self._skipped.append((self._folder / path, _why_skipped(entry)))
        elif self._follow_links or os.path.realpath(entry.path).startswith(self._root):
            self._images[path] = entry
        else:
            self._outside.add(path)


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise FolderUnavailableError(f"{printable(folder)}: {no_such(folder, 'folder')}; give a folder of image files")
    if not folder.is_dir():
        raise UsageError(f"{printable(folder)}: this is a file, not a folder; give a folder of image files")


def leads_out(folder: Path, path: str | Path) -> bool:
    """Whether a file or folder in a folder lies elsewhere, because it or a folder of it is a link.

    Args:
        folder: that the file should lie in.
        path: relative to it; that of the folder itself does not lead out.
    """
    # Path.resolve raises for loops of links.
    return not f"{os.path.realpath(folder / path)}/".startswith(_root_of(folder))


def _root_of(folder: Path) -> str:
    """How real paths of files in a folder start."""
    return os.path.realpath(folder).rstrip("/") + "/"


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


def _why_skipped(entry: os.DirEntry[str]) -> str:
    """Why a link or a special file is no image file.

    Raises:
        OSError: the system cannot tell what the entry is.
    """
    if not entry.is_symlink():
        return "no ordinary file"
    try:
        Path(entry.path).stat()
    except FileNotFoundError:
        return "a broken link"
    return "no ordinary file"
