"""Forgetting: removing crops from a gallery and erasing their descriptors."""

from __future__ import annotations

from collections.abc import Sequence

from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.contract import GalleryStore


def forget_crops(gallery: GalleryStore, paths: Sequence[str] = (), person: str | None = None) -> int:
    """Remove crops and erase their descriptors. The image files stay.

    Args:
        gallery: open for writing.
        paths: crops, as the gallery names them.
        person: all crops of this person too.

    Returns:
        Number of crops removed.

    Raises:
        UsageError: neither paths nor a person are given, or one of them is not in the gallery. Nothing is removed then.
        OutputError: the disk refused a write.
    """
    if not paths and not person:
        raise UsageError("nothing to forget: give paths of crops or a person", parameter=("paths", "person"))
    rows = gallery.rows()
    unknown = set(paths) - {row.path for row in rows}
    if unknown:
        raise UsageError(
            f"{printable(min(unknown))}: not in the index ({len(unknown)} such paths); see: rrid-edge gallery list",
            parameter="paths",
        )
    of_person = {row.path for row in rows if person and row.person == person}
    if person and not of_person:
        raise UsageError(f"person {person!r} is not in the index; see: rrid-edge gallery list", parameter="person")
    return gallery.remove(sorted(of_person.union(paths)), overwrite=True)
