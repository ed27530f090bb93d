"""Forgetting: crops are removed, their descriptors erased, and their content is kept out until it is unforgotten."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.crops.reading import MAX_BYTES
from rrid_edge.errors import UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.left_out import FileState, clear_forgotten, remember_forgotten
from rrid_edge.gallery.indexing.retention import is_older
from rrid_edge.progress import step
from rrid_edge.stopping import kept_if_stopped

NOTHING_GIVEN = ("paths", "ids", "person", "camera", "source", "before")


@dataclass(frozen=True)
class ForgetSelection:
    """Which crops to forget: all that are named, and all that meet every condition that is given.

    Attributes:
        paths: crops by path. With ``source``, only those of this source.
        ids: crops by id.
        person: crops of this person, as the file name tells or as a user confirmed.
        camera: crops of this camera.
        source: crops of this source. Together with ``paths`` or ``ids`` it is no condition of its own.
        before: crops taken before this time (UTC microseconds), by their own time or else that of their file.
    """

    paths: Sequence[str] = ()
    ids: Sequence[int] = ()
    person: str | None = None
    camera: str | None = None
    source: str | None = None
    before: int | None = None

    @property
    def has_condition(self) -> bool:
        """Whether rows are chosen by conditions, not only by name."""
        told = (self.person, self.camera, self.before)
        is_named = bool(self.paths or self.ids)
        return any(value is not None for value in told) or (self.source is not None and not is_named)

    def meets(self, row: GalleryRow) -> bool:
        """Whether a row meets every condition that is given."""
        return (
            (self.person is None or self.person in (row.person, row.label))
            and (self.camera is None or row.camera == self.camera)
            and (self.source is None or row.source == self.source)
            and (self.before is None or is_older(row, self.before))
        )

    def names(self, row: GalleryRow) -> bool:
        """Whether a row is named by path or id."""
        in_source = self.source is None or row.source == self.source
        return row.id in self.ids or (row.path in self.paths and in_source)


@dataclass(frozen=True)
class Forgetting:
    """The result of forgetting.

    Attributes:
        ids: of the rows, which include those that were removed earlier.
        rows: the rows themselves, in the order of ``ids``.
        deleted: number of image files that were deleted.
        files_left: image files that were to be deleted and were not, with the reason.
        left: where something of the rows is still on a disk, in lines for users.
        same: names of those crops that were not chosen, but have the content of a chosen one.
        is_promised: whether the store erases at once, so that ``left`` is a failure. A server rewrites its files later.
    """

    ids: tuple[int, ...]
    rows: tuple[GalleryRow, ...]
    deleted: int = 0
    files_left: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    is_promised: bool = True


def selected_rows(gallery: GalleryStore, selection: ForgetSelection) -> list[GalleryRow]:
    """The rows of a selection, also those that were removed and whose vectors are still stored.

    Raises:
        UsageError: nothing is selected, or a path, id, person, camera or source is not in the gallery.
    """
    _refuse_empty(selection)
    return _selected(_everything(gallery), selection)


def _refuse_empty(selection: ForgetSelection) -> None:
    if not selection.paths and not selection.ids and not selection.has_condition:
        raise UsageError(
            "nothing to forget: give paths or ids of crops, a person, a camera, a source or a time",
            parameter=NOTHING_GIVEN,
        )


def _everything(gallery: GalleryStore) -> list[GalleryRow]:
    """All rows, those that were removed and whose vectors are still stored first."""
    return [*gallery.removed(), *gallery.rows()]


def _selected(everything: Iterable[GalleryRow], selection: ForgetSelection) -> list[GalleryRow]:
    rows = {row.id: row for row in everything}
    named = {key: row for key, row in rows.items() if selection.names(row)}
    _refuse_unknown(selection, named.values())
    chosen = {key: row for key, row in rows.items() if selection.has_condition and selection.meets(row)}
    if selection.has_condition and not chosen:
        _refuse_unmet(selection, rows.values())
    return sorted((named | chosen).values(), key=lambda row: (os.fsencode(row.path or ""), row.id))


def _refuse_unknown(selection: ForgetSelection, found: Iterable[GalleryRow]) -> None:
    rows = list(found)
    unknown = set(selection.paths) - {row.path for row in rows}
    if unknown:
        raise UsageError(
            f"{printable(min(unknown))}: not in the index ({len(unknown)} such paths); expected paths below the "
            "gallery's folder; see: rrid-edge gallery list",
            parameter="paths",
        )
    missing = set(selection.ids) - {row.id for row in rows}
    if missing:
        raise UsageError(
            f"id {min(missing)} is not in the index ({len(missing)} such ids); see: rrid-edge gallery list",
            parameter="ids",
        )


def _refuse_unmet(selection: ForgetSelection, rows: Iterable[GalleryRow]) -> None:
    """Refuse a person, camera or source that no row has. Rows that are only too young are no mistake."""
    all_rows = list(rows)
    for name in ("person", "camera", "source"):
        value = getattr(selection, name)
        if value is not None and not any(ForgetSelection(**{name: value}).meets(row) for row in all_rows):
            raise UsageError(f"{name} {value!r} is not in the index; see: rrid-edge gallery list", parameter=name)


@step("forgetting crops")
def forget_crops(
    gallery: GalleryStore,
    selection: ForgetSelection,
    *,
    delete_from: Path | None = None,
    folder_source: str | None = None,
    dry_run: bool = False,
) -> Forgetting:
    """Remove crops, erase their descriptors, and keep their content out of later indexing.

    Crops of the same content as a chosen one are forgotten too: the content is what is kept out.
    A run after a kill goes on: image files are deleted first, so that the rows still name the others.

    Args:
        gallery: open for writing, or for reading with ``dry_run``.
        selection: the crops.
        delete_from: also delete the image files, which lie in this folder; None leaves them.
        folder_source: the source of the rows whose files lie in ``delete_from``.
        dry_run: change nothing; the result tells what would be forgotten.

    Raises:
        UsageError: nothing is selected, or something is not in the gallery. Nothing is removed then.
        OutputError: the disk refused a write.
    """
    _refuse_empty(selection)
    everything = _everything(gallery)  # read once: 100,000 rows take seconds
    chosen = _selected(everything, selection)
    copies = _same_content(everything, chosen)
    rows, same = [*chosen, *copies], tuple(row.name for row in copies)
    ids = tuple(row.id for row in rows)
    if dry_run or not rows:
        return Forgetting(ids, tuple(rows), same=same)
    with kept_if_stopped(lambda: _kept(gallery, ids)):
        files = list(_delete_files(rows, delete_from, folder_source)) if delete_from is not None else []
        report = gallery.forget(ids)
        for source, states in _states(rows).items():
            remember_forgotten(gallery, source, states)
    files_left = tuple((path, reason) for path, reason in files if reason is not None)
    is_promised = not gallery.info().index_type
    return Forgetting(ids, tuple(rows), len(files) - len(files_left), files_left, report.left, same, is_promised)


def _kept(gallery: GalleryStore, ids: Sequence[int]) -> str:
    """What a stopped run has done, in one line."""
    left = len({row.id for row in gallery.rows()} & {*ids})
    return f"{len(ids) - left:,} of {len(ids):,} crops are removed from the index"


def _same_content(everything: Iterable[GalleryRow], rows: Sequence[GalleryRow]) -> list[GalleryRow]:
    """Rows that have the content of some rows but are not among them. That content is kept out, so they go too."""
    ids = {row.id for row in rows}
    contents = {row.sha256 for row in rows if row.sha256}
    return [row for row in everything if row.sha256 in contents and row.id not in ids]


def _states(rows: Iterable[GalleryRow]) -> dict[str, dict[str, FileState]]:
    """The state of each forgotten file when it was read, by source and path."""
    states: dict[str, dict[str, FileState]] = defaultdict(dict)
    for row in rows:
        if row.path is not None:
            states[row.source][row.path] = (row.size, row.mtime_ns)
    return states


def _delete_files(rows: Iterable[GalleryRow], folder: Path, source: str | None) -> Iterator[tuple[str, str | None]]:
    """Delete the image files of rows; yields the path of each that existed, and why it was not deleted, or None."""
    root = folder.resolve()
    for row in rows:
        if row.path is None:
            continue
        if source is not None and row.source != source:
            yield row.path, f"its source is {row.source}: delete it there"
            continue
        try:
            yield row.path, _deleted(root, row.path, row.sha256)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield row.path, f"cannot be deleted ({error.strerror})"


def _deleted(root: Path, path: str, sha256: str) -> str | None:
    """Delete a file, and return None, or why it was not deleted.

    Raises:
        OSError: the file does not exist, or the system refuses.
    """
    file = root / path
    if not file.parent.resolve(strict=True).is_relative_to(root):
        return "it lies outside the folder"
    state = file.stat()
    if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_BYTES or sha256_of_file(file) != sha256:
        return "it is another picture now"
    file.unlink()
    return None


def unforget(gallery: GalleryStore, digests: Iterable[str] | None = None) -> int:
    """Let forgotten contents be indexed again.

    Args:
        gallery: open for writing.
        digests: SHA-256 (hex) of the contents; None means all.

    Returns:
        Number of contents that were let in again.
    """
    count = gallery.unforget(digests)
    for source in {LOCAL_SOURCE, *gallery.sources()}:  # a source without rows may have forgotten files
        clear_forgotten(gallery, source)
    return count
