"""Files that a dataset names in its lists or holds in its folders: they stay below the dataset's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from rrid_edge.crops.folder import ImageFiles, find_images, leads_out
from rrid_edge.errors import DatasetError, printable


def listed_path(folder: Path, name: str, where: str) -> Path:
    """The path of a name in a list.

    Args:
        folder: folder that the list's names are relative to.
        name: the name.
        where: the list and the place in it, for messages.

    Raises:
        DatasetError: the name is empty, absolute or leads out of ``folder``, or no file can have it.
    """
    parts = PurePosixPath(name), PureWindowsPath(name)
    if (
        not name.strip()
        or "\0" in name
        or not _has_bytes(name)
        or any(path.is_absolute() or path.anchor or ".." in path.parts or not path.parts for path in parts)
    ):
        raise DatasetError(
            f"{where}: the name {name!r} does not stay below {printable(folder)}; expected a relative path without "
            "'..'; correct the list, or copy it again"
        )
    return folder / name


def _has_bytes(name: str) -> bool:
    """Whether the file system can store a name. JSON can hold half of a surrogate pair."""
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def check_files(root: Path, paths: Iterable[Path], *, follow_links: bool = False) -> None:
    """Check the files that a dataset lists.

    Args:
        root: folder of the dataset. It may itself be a link.
        paths: the files, below ``root``.
        follow_links: allow links that lead out of ``root``.

    Raises:
        DatasetError: a file is missing or no ordinary file, or a link leads out of ``root``. The message names the
            first one and their number.
    """
    everything = set(paths)
    for folder in sorted({path.parent for path in everything}):
        check_inside(root, folder, follow_links=follow_links)
    found = {path: _kind(path) for path in everything}
    missing = sorted((path for path, kind in found.items() if not kind), key=os.fsencode)
    if missing:
        raise DatasetError(
            f"{printable(root)}: the image {printable(missing[0].relative_to(root))} is listed but missing "
            f"({len(missing)} in all); copy the images, or correct the lists"
        )
    if not follow_links:
        refuse_outside(
            root, [path for path, kind in found.items() if kind == "link" and leads_out(root, path.relative_to(root))]
        )


def check_inside(root: Path, path: Path, *, follow_links: bool = False) -> None:
    """Check that a folder or a list of a dataset lies below the dataset's folder.

    Raises:
        DatasetError: it is a link, or lies behind one, that leads out of ``root``.
    """
    if not follow_links and leads_out(root, path.relative_to(root)):
        refuse_outside(root, [path])


def refuse_outside(root: Path, links: Iterable[Path]) -> None:
    """Refuse links that lead out of a dataset; do nothing if there are none.

    Raises:
        DatasetError: there are some. The message names the first one and their number.
    """
    outside = sorted(links, key=os.fsencode)
    if outside:
        raise DatasetError(
            f"{printable(root)}: {printable(outside[0].relative_to(root))} is a link that leads out of this folder "
            f"({len(outside)} in all); expected files below it: copy them, or prepare the dataset and follow links "
            "there, if you trust them",
            parameter="follow_links",
        )


def images_below(root: Path, folder: Path, *, follow_links: bool = False) -> ImageFiles:
    """The image files of a folder of a dataset, in the order of their names.

    Raises:
        DatasetError: the folder is missing, or a link leads out of ``root``.
    """
    if not folder.is_dir():
        lower = next((path for path in _folders_of(root) if (path / folder.relative_to(root)).is_dir()), None)
        advice = (
            "copy the dataset again, if this is it" if lower is None else f"the dataset lies lower: {printable(lower)}"
        )
        raise DatasetError(
            f"{printable(folder)}: this folder of the dataset is missing; expected it in {printable(root)}: {advice}"
        )
    check_inside(root, folder, follow_links=follow_links)
    found = find_images(folder, follow_links=follow_links)
    refuse_outside(root, found.outside)
    return found


def _folders_of(root: Path) -> list[Path]:
    """Folders directly in ``root``; none if it cannot be read."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


def _kind(path: Path) -> str:
    """``file``, ``link`` (to a file), or an empty text: missing, or no ordinary file."""
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        return ""
    if stat.S_ISLNK(mode):
        return "link" if path.is_file() else ""
    return "file" if stat.S_ISREG(mode) else ""
