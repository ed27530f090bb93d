"""Retention: crops older than a gallery keeps are forgotten, and their files are not indexed again."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryInfo, NewRow
from rrid_edge.gallery.contract import GalleryStore

LONGEST_S = 1000 * 366 * 86_400
"""Longest retention: 1,000 years."""
_MICROSECONDS = 1_000_000


def age_limit(info: GalleryInfo, now_us: int | None = None) -> int | None:
    """The oldest time (UTC microseconds) that a gallery keeps, or None if it keeps everything.

    Args:
        info: of the gallery.
        now_us: the present, in UTC microseconds; None reads the clock.
    """
    if info.retention_s is None:
        return None
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    return now_us - info.retention_s * _MICROSECONDS


def known_time(row: NewRow) -> int | None:
    """When a crop was taken (UTC microseconds): its own time, else that of its file, or None if neither is known.

    A row without a file has the time at which it was added instead of a file's time.
    """
    if row.time is not None:
        return row.time
    return row.mtime_ns // 1000 if row.mtime_ns else None


def is_older(row: NewRow, limit: int | None) -> bool:
    """Whether a crop is older than a limit (UTC microseconds). A crop of unknown time is not."""
    taken = known_time(row)
    return limit is not None and taken is not None and taken < limit


@dataclass(frozen=True)
class Expired:
    """Rows that were forgotten because of their age.

    Attributes:
        ids: of the rows.
        left: where something of them is still on a disk, in lines for users.
    """

    ids: tuple[int, ...] = ()
    left: tuple[str, ...] = ()


def forget_expired(gallery: GalleryStore, info: GalleryInfo, now_us: int | None = None) -> Expired:
    """Forget all rows that are older than the gallery keeps, of every source and without a file too.

    Their content is not kept out: the age of their files keeps them out as long as the retention does.

    Args:
        gallery: open for writing.
        info: its facts.
        now_us: the present, in UTC microseconds; None reads the clock.
    """
    limit = age_limit(info, now_us)
    ids = tuple(row.id for row in gallery.rows() if is_older(row, limit)) if limit is not None else ()
    return Expired(ids, gallery.forget(ids, keep_out=False).left) if ids else Expired()


def set_retention(gallery: GalleryStore, keep_s: int | None) -> None:
    """Set how long a gallery keeps crops. The next indexing forgets older ones.

    Args:
        gallery: open for writing.
        keep_s: seconds, or None for ever.

    Raises:
        UsageError: not between one second and :data:`LONGEST_S`.
    """
    if keep_s is not None and not 0 < keep_s <= LONGEST_S:
        raise UsageError(
            f"a retention of {keep_s} seconds does not work: expected 1 second to 1,000 years, or none",
            parameter="keep",
        )
    gallery.remember({"retention_s": "" if keep_s is None else str(keep_s)})
