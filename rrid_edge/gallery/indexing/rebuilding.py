"""What a rebuild would lose: rows that no run over the folder can make again."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.crops.folder import FolderScan, scan_images
from rrid_edge.errors import GalleryError, GalleryUnavailableError, UsageError
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.indexing.facts import default_source
from rrid_edge.gallery.indexing.removal import allowed_removals, folders_of
from rrid_edge.gallery.opening import Location, open_existing


def refuse_lossy_rebuild(
    folder: Path, location: Location, source: str | None = None, *, follow_links: bool = False
) -> None:
    """Refuse to rebuild a gallery that holds what its folder cannot give again.

    These are rows without files, rows of other sources, labels, and crops whose files vanished as if a disk were not
    mounted. A damaged gallery is not refused: rebuilding replaces it.

    Args:
        folder: of crops.
        location: of the gallery; it may not exist.
        source: of the folder's rows; None means :func:`rrid_edge.gallery.indexing.facts.default_source`.
        follow_links: the rebuild reads links to files outside the folder too.

    Raises:
        UsageError: the gallery holds such rows.
        GalleryUnavailableError: the server does not answer.
    """
    try:
        gallery = open_existing(location)
        if gallery is None:
            return
        with gallery:
            where, own = gallery.where, source or default_source(gallery.info(), folder)
            rows = gallery.rows()
    except GalleryUnavailableError:
        raise
    except GalleryError:
        return
    losses = _losses(rows, own)
    if losses:
        raise UsageError(
            f"{where}: a rebuild would lose {', '.join(losses)}, which the folder cannot give again: export or copy "
            "the gallery first, then allow removals",
            parameter="allow_removals",
        )
    own_paths = [row.path for row in rows if row.path is not None and row.source == own]
    vanished = _vanished(scan_images(folder, follow_links=follow_links), own_paths)
    if vanished:
        raise UsageError(f"{where}: nothing was rebuilt: {vanished}", parameter="allow_removals")


def _losses(rows: list[GalleryRow], own: str) -> list[str]:
    without_files = sum(row.path is None for row in rows)
    others = sum(row.path is not None and row.source != own for row in rows)
    labels = sum(row.path is not None and row.source == own and row.label is not None for row in rows)
    counts = ((without_files, "rows without files"), (others, "rows of other sources"), (labels, "labels"))
    return [f"{count} {what}" for count, what in counts if count]


def _vanished(scan: FolderScan, paths: list[str]) -> str:
    """Why rows of vanished files would have to stay; empty if they may be removed."""
    outside = sum(path in scan.outside for path in paths)
    if outside:
        return f"the files of {outside} of its crops are links that lead out of the folder: allow following links"
    gone = [path for path in paths if path not in scan.entries]
    unexamined = [path for path in gone if scan.may_hold(path)]
    if unexamined:
        return f"the files of {len(unexamined)} of its crops could not be examined: make the folder readable"
    return allowed_removals(gone, folders_of(scan.entries), len(paths)).reason
