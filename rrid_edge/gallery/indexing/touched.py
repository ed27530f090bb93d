"""Files that were only touched or copied: their stored descriptors stay, and they are not embedded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from rrid_edge.embedding.pipeline import FileFacts
from rrid_edge.errors import RridEdgeError
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.facts import FactReader
from rrid_edge.gallery.indexing.sparing import store_each
from rrid_edge.progress import step

_ROWS_PER_COMMIT = 1024


@step("reading files that were touched")
def update_touched(
    gallery: GalleryStore,
    reader: FactReader,
    stored: Mapping[str, GalleryRow],
    paths: Sequence[str],
    stop: Callable[[], bool],
) -> Set[str]:
    """Record the new modification times of files whose content is the stored one.

    Reading a file takes a hundredth of the time of embedding it.

    Args:
        gallery: open for writing.
        reader: of the folder and its source.
        stored: intact rows by path.
        paths: files whose size or modification time is not the stored one.
        stop: called after every file; True ends the comparison.

    Returns:
        The paths of these files.
    """
    done: set[str] = set()
    rows: list[GalleryRow] = []
    for path in paths:
        if (row := stored.get(path)) and (touched := _touched(reader, path, row)):
            rows.append(touched)
            done.add(path)
            if len(rows) == _ROWS_PER_COMMIT:
                done -= _update(gallery, rows)
                rows = []
            if stop():
                break
    if rows:
        done -= _update(gallery, rows)
    return done


def _update(gallery: GalleryStore, rows: Sequence[GalleryRow]) -> Set[str]:
    """Update rows; returns the paths of those that failed, which are embedded to learn the reason."""
    return {row.path for row, _ in store_each(gallery.update, rows) if row.path is not None}


def _touched(reader: FactReader, path: str, row: GalleryRow) -> GalleryRow | None:
    """The row with its file's new state, or None if the content is another one or cannot be read."""
    file = reader.folder / path
    try:
        facts = file.stat()  # before reading, so that the next comparison notices a change during reading
        if facts.st_size != row.size or sha256_of_file(file) != row.sha256:
            return None
        return reader.touched(row, FileFacts(file, row.sha256, facts.st_size, facts.st_mtime_ns))
    except Exception as error:
        if isinstance(error, RridEdgeError):
            raise
        return None  # embedding it tells the reason
