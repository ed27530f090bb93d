"""What the rows of a gallery tell, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rrid_edge.gallery.base import NewRow


@dataclass(frozen=True)
class RowSummary:
    """What the rows of a gallery tell, in numbers.

    Attributes:
        cameras: number of rows by camera.
        sources: number of rows by source.
        times: the first and the last known time (UTC microseconds), or None.
        frames: the first and the last known frame, or None.
    """

    cameras: Mapping[str | None, int]
    sources: Mapping[str, int]
    times: tuple[int, int] | None
    frames: tuple[int, int] | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.sources.values())

    @classmethod
    def of(cls, rows: Sequence[NewRow]) -> RowSummary:
        """The summary of some rows."""
        times = [row.time for row in rows if row.time is not None]
        frames = [row.frame for row in rows if row.frame is not None]
        spans = [(min(values), max(values)) if values else None for values in (times, frames)]
        return cls(Counter(row.camera for row in rows), Counter(row.source for row in rows), *spans)
