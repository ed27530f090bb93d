"""Files that are not read again until they change: those that are no images, and forgotten ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from rrid_edge.crops.folder import FolderScan
from rrid_edge.crops.images import read_image
from rrid_edge.crops.reading import MAX_BYTES
from rrid_edge.errors import ImageError
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.shared import stored_mtime

FileState = tuple[int, int]
"""Size (bytes) and modification time (ns) of a file, as galleries store them."""
_SECOND_NS = 1_000_000_000
_FAT_TICK_NS = 2_000_000_000
"""FAT keeps even seconds."""
_FORGOTTEN = "forgotten/"
"""Forgotten files are remembered by a digest of their path: their names may name a person."""


def file_state(stat: os.stat_result) -> FileState:
    """The state of a file."""
    return stat.st_size, stored_mtime(stat.st_mtime_ns)


def is_same_file(state: FileState, stored: FileState) -> bool:
    """Whether a file has the size and time of its row. A time that was cut to whole seconds is the same time."""
    (size, mtime_ns), (stored_size, stored_mtime_ns) = state, stored
    if size != stored_size:
        return False
    return mtime_ns == stored_mtime_ns or any(
        mtime_ns % tick == 0 and stored_mtime_ns - stored_mtime_ns % tick == mtime_ns
        for tick in (_SECOND_NS, _FAT_TICK_NS)
    )


def forgotten_key(path: str) -> str:
    """The key of a forgotten file among the unreadable ones. No image file has such a name."""
    return _FORGOTTEN + hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def undecodable_state(path: Path, height_px: int, width_px: int) -> FileState | None:
    """The state of a file that can be read but is no image.

    None if the system refuses to read it, if it changes meanwhile, or if it can be decoded now.
    """
    try:
        before = path.stat()
        if before.st_size <= MAX_BYTES:
            sha256_of_file(path)
        read_image(path, height_px, width_px)
    except ImageError as error:
        if isinstance(error.__cause__, MemoryError):  # of this machine now, not of the file
            return None
        try:
            return file_state(before) if file_state(path.stat()) == file_state(before) else None
        except OSError:
            return None
    except Exception:  # the run has named it
        return None
    return None


class LeftOut:
    """The files of a source that are not read again until they change.

    Args:
        known: what the gallery remembers; see :meth:`rrid_edge.gallery.contract.GalleryStore.unreadable`.
    """

    def __init__(self, known: Mapping[str, FileState]) -> None:
        self._known = dict(known)
        self._has_forgotten = any(key.startswith(_FORGOTTEN) for key in known)

    def is_unreadable(self, path: str, state: FileState) -> bool:
        """Whether a file of this state could not be decoded."""
        return self._is_known(path, state)

    def is_forgotten(self, path: str, state: FileState) -> bool:
        """Whether a file of this state was forgotten."""
        return self._has_forgotten and self._is_known(forgotten_key(path), state)

    def _is_known(self, key: str, state: FileState) -> bool:
        return key in self._known and is_same_file(state, self._known[key])

    def keep_present(self, scan: FolderScan, rows: Collection[str]) -> None:
        """Drop files that do not exist any more, and forgotten ones that have a row again.

        Args:
            scan: the folder's files.
            rows: paths that have a row.
        """
        unknown = (path for path in scan.entries if path not in rows) if self._has_forgotten else ()
        forgotten = {forgotten_key(path) for path in unknown}
        self._known = {
            key: state
            for key, state in self._known.items()
            if key in scan.entries or key in forgotten or scan.may_hold(key) or _may_be_hidden(key, scan)
        }

    def remember(
        self,
        gallery: GalleryStore,
        source: str,
        tried: Iterable[str],
        *,
        unreadable: Mapping[str, FileState],
        forgotten: Mapping[str, FileState],
    ) -> None:
        """Update what the gallery remembers.

        Args:
            gallery: open for writing.
            source: of the files.
            tried: files that were read in this run.
            unreadable: those that could not be decoded.
            forgotten: those whose content is forgotten.
        """
        for path in tried:
            self._known.pop(path, None)
            if self._has_forgotten:
                self._known.pop(forgotten_key(path), None)
        self._known |= unreadable
        self._known |= {forgotten_key(path): state for path, state in forgotten.items()}
        if self._known != gallery.unreadable(source):
            gallery.set_unreadable(source, self._known)


def _may_be_hidden(key: str, scan: FolderScan) -> bool:
    """Whether a forgotten file may lie in a folder that could not be listed."""
    return key.startswith(_FORGOTTEN) and bool(scan.unlisted)


def remember_forgotten(gallery: GalleryStore, source: str, files: Mapping[str, FileState]) -> None:
    """Leave forgotten files out of the next runs, without reading them again.

    Args:
        gallery: open for writing.
        source: of the files.
        files: state of each file when it was read, by path.
    """
    added = {forgotten_key(path): state for path, state in files.items()}
    known = gallery.unreadable(source)
    if added.items() - known.items():
        gallery.set_unreadable(source, {**known, **added})


def clear_forgotten(gallery: GalleryStore, source: str) -> None:
    """Read forgotten files of a source again in the next runs."""
    known = gallery.unreadable(source)
    kept = {key: state for key, state in known.items() if not key.startswith(_FORGOTTEN)}
    if kept != known:
        gallery.set_unreadable(source, kept)
