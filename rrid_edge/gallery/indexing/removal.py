"""Which rows of vanished files may be removed. Many at once are rather an unmounted disk than deleted files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import printable


@dataclass(frozen=True)
class Removals:
    """A decision about rows whose files vanished.

    Attributes:
        paths: rows to remove.
        kept: number of rows that stay.
        reason: why rows stay, in one line; empty if none do.
    """

    paths: Sequence[str]
    kept: int = 0
    reason: str = ""


def allowed_removals(vanished: Sequence[str], filled: Set[str], rows: int) -> Removals:
    """The rows that may be removed without being told.

    Rows of a sub-folder stay if no image file of it is left. All rows stay if more than a fifth of them vanished.

    Args:
        vanished: paths of rows whose file does not exist, or is no image any more.
        filled: sub-folders that hold image files; see :func:`folders_of`.
        rows: number of rows of the source.
    """
    if not vanished:
        return Removals(())
    empty = Counter(found for path in vanished if (found := _empty_folder(path, filled)))
    named = ""
    if empty:
        folder, count = max(empty.items(), key=lambda item: (item[1], item[0]))
        others = f" (and {len(empty) - 1} more such folders, {sum(empty.values())} crops in all)" * (len(empty) > 1)
        named = f"{printable(folder)}: this folder is gone or empty, and the index holds {count} crops of it{others}"
    if 5 * len(vanished) > rows:
        many = f"the files of {len(vanished)} of {rows} crops are gone, more than a fifth"
        return Removals((), len(vanished), _reason(f"{named}; {many}" if named else many))
    removable = [path for path in vanished if not _empty_folder(path, filled)]
    return Removals(removable, len(vanished) - len(removable), _reason(named) if named else "")


def is_gone(file: Path) -> bool:
    """Whether a file still does not exist: embedding may have taken hours since its folder was listed."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def folders_of(paths: Iterable[str]) -> set[str]:
    """All folders that hold some files, directly or in a sub-folder, each with a final ``/``; not the root."""
    result: set[str] = set()
    for path in paths:
        # The last folder first: if it is known, so are those above it.
        end = path.rfind("/")
        while end >= 0 and path[: end + 1] not in result:
            result.add(path[: end + 1])
            end = path.rfind("/", 0, end)
    return result


def _reason(facts: str) -> str:
    return f"{facts}: their rows stay; mount the disk, or allow removals if the files were deleted on purpose"


def _folders(path: str) -> Iterator[str]:
    """The folders of a path, each with a final ``/``, the outermost first; not the root."""
    end = path.find("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.find("/", end + 1)


def _empty_folder(path: str, filled: Set[str]) -> str:
    """The outermost folder of a path that holds no image files, or an empty text."""
    return next((folder for folder in _folders(path) if folder not in filled), "")
