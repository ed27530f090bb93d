"""Comparing a folder with its gallery: new, changed and vanished files, and those that are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.crops.folder import FolderScan, scan_images
from rrid_edge.errors import FolderUnavailableError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.facts import FactReader
from rrid_edge.gallery.indexing.left_out import FileState, LeftOut, file_state, is_same_file
from rrid_edge.gallery.indexing.removal import folders_of
from rrid_edge.gallery.indexing.retention import age_limit, is_older
from rrid_edge.progress import step


@dataclass(frozen=True)
class Changes:
    """How a folder differs from its gallery.

    Attributes:
        files: number of image files in the folder.
        rows: number of rows of the source.
        outdated: paths to embed, by their bytes: new and changed files, and damaged crops.
        deleted: paths of rows whose file does not exist.
        unreadable: paths of rows whose file is known to be no image any more.
        unexamined: number of rows whose file, or a folder of it, the system refused to examine.
        unknown: number of those whose file was listed.
        expired: number of files without a row that are older than the gallery keeps.
        left_out: files that are not read again.
        left: number of files that were left out because of it.
        forgotten: number of those that were forgotten.
        stored: rows of ``outdated`` paths, by path.
        damaged: paths of rows whose vector is damaged.
        skipped: entries that were not taken, with the reason.
        filled: sub-folders that hold image files.
        endings: number of files with other endings, by their ending.
        outside: links that were not followed, because they lead out of the folder.
    """

    files: int
    rows: int
    outdated: list[str]
    deleted: list[str]
    unreadable: list[str]
    unexamined: int
    unknown: int
    expired: int
    left_out: LeftOut
    left: int
    forgotten: int
    stored: Mapping[str, GalleryRow]
    damaged: Set[str]
    skipped: tuple[tuple[str, str], ...]
    filled: Set[str]
    endings: Mapping[str, int]
    outside: tuple[str, ...]


@step("comparing the folder with the index")
def compare(gallery: GalleryStore, reader: FactReader, *, verify: bool, follow_links: bool = False) -> Changes:
    """Compare a folder with the rows of its source.

    Files are compared by size and modification time. A whole second equals the same time with a fraction: many media
    and archives keep whole seconds only.

    Args:
        gallery: that may hold other sources too.
        reader: of the folder and its source.
        verify: read all stored vectors to find damaged ones, and try files again that were left out.
        follow_links: read links to files outside the folder too. If not, their rows stay as they are.

    Raises:
        FolderUnavailableError: no such folder.
        UsageError: this is no folder.
    """
    scan = scan_images(reader.folder, follow_links=follow_links)
    damaged = _damaged_paths(gallery, reader.source) if verify else set()
    stats = gallery.file_stats(reader.source)  # after the check, which deletes damaged entries
    sorter = _Sorter(gallery, reader, LeftOut(gallery.unreadable(reader.source)), retry=verify)
    outdated = sorted({*sorter.outdated(scan, stats), *damaged.intersection(scan.entries)}, key=os.fsencode)
    absent = [path for path in stats if path not in scan.entries]
    deleted = [path for path in absent if not scan.may_hold(path)]
    known = [path for path in outdated if path in stats]
    sorter.left_out.keep_present(scan, stats)
    # Only the counts of the listing are kept: with a million files it would occupy memory until the end of the run.
    return Changes(
        files=len(scan.entries),
        rows=len(stats),
        outdated=outdated,
        deleted=deleted,
        unreadable=sorter.unreadable,
        unexamined=len(absent) - len(deleted) + sorter.unexamined,
        unknown=sorter.unexamined,
        expired=sorter.expired,
        left_out=sorter.left_out,
        left=sorter.left,
        forgotten=sorter.forgotten,
        stored={row.path: row for row in gallery.rows_of(known, reader.source) if row.path is not None},
        damaged=damaged,
        skipped=(*((str(path), reason) for path, reason in scan.skipped), *sorter.skipped),
        filled=folders_of((*scan.entries, *scan.outside)),
        endings=scan.endings,
        outside=tuple(sorted(scan.outside, key=os.fsencode)),
    )


def _damaged_paths(gallery: GalleryStore, source: str) -> set[str]:
    return {row.path for row in gallery.damaged() if row.path is not None and row.source == source}


class _Sorter:
    """Sorts the files of a folder into those that are up to date, outdated, or left out.

    Attributes:
        left_out: files that are not read again.
        left: number of files left out because of it.
        forgotten: number of those that were forgotten.
        unreadable: rows whose file is known to be no image any more.
        unexamined: number of rows whose file the system refused to examine.
        expired: number of new files that are older than the gallery keeps.
        skipped: folders of those files, with the reason.
    """

    def __init__(self, gallery: GalleryStore, reader: FactReader, left_out: LeftOut, *, retry: bool) -> None:
        self._gallery, self._reader, self._retry = gallery, reader, retry
        self._limit = age_limit(gallery.info())
        self.left_out = left_out
        self.left = self.forgotten = self.unexamined = self.expired = 0
        self.unreadable: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self._refusals: set[tuple[str, str]] = set()

    def outdated(self, scan: FolderScan, stats: Mapping[str, FileState]) -> Iterator[str]:
        """Paths of the files to read."""
        for path, entry in scan.entries.items():
            try:
                state = file_state(entry.stat())
            except FileNotFoundError:  # deleted since the listing, or a link that leads nowhere
                continue
            except OSError as error:
                self._refused(path, error)
                self.unexamined += path in stats
                continue
            stored = stats.get(path)
            if stored is not None and (state == stored or is_same_file(state, stored)):
                continue
            if self._is_left_out(path, state):
                self.left += 1
                if stored is not None:
                    self.unreadable.append(path)
            elif self._is_expired(path, state):
                self.expired += 1
            else:
                yield path

    def _refused(self, path: str, error: OSError) -> None:
        """Note that a file could not be examined: one line for all files of a folder, which share the reason."""
        line = (str((self._reader.folder / path).parent), f"its files cannot be examined ({error.strerror})")
        if line not in self._refusals:
            self._refusals.add(line)
            self.skipped.append(line)

    def _is_left_out(self, path: str, state: FileState) -> bool:
        if self.left_out.is_forgotten(path, state):
            is_forgotten = not self._retry or self._is_still_forgotten(path)
            self.forgotten += is_forgotten
            return is_forgotten
        return not self._retry and self.left_out.is_unreadable(path, state)

    def _is_still_forgotten(self, path: str) -> bool:
        try:
            digest = sha256_of_file(self._reader.folder / path)
        except OSError:
            return False
        return digest in self._gallery.kept_out([digest])

    def _is_expired(self, path: str, state: FileState) -> bool:
        if self._limit is None:
            return False
        try:
            time = self._reader.facts(path).time
        except Exception:  # storing it tells the reason
            return False
        return is_older(NewRow(path, mtime_ns=state[1], time=time), self._limit)


def refuse_unavailable(folder: Path, changes: Changes) -> None:
    """Refuse a folder without images whose gallery has crops: its disk may not be mounted.

    Raises:
        FolderUnavailableError: the folder has no images, or cannot be listed, and the gallery has crops of it.
    """
    if not changes.rows or changes.files:
        return
    if changes.unexamined:
        raise FolderUnavailableError(
            f"{printable(folder)}: this folder cannot be listed, and its index holds {changes.rows} crops, which are "
            "kept: make the folder readable"
        )
    raise FolderUnavailableError(
        f"{printable(folder)}: no images in it, and its index holds {changes.rows} crops, which are kept: is a disk "
        "not mounted? If the files were deleted on purpose, allow removals",
        parameter="allow_removals",
    )
