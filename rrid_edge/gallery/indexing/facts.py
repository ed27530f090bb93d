"""The facts of crops: source, person, camera, time, frame and track, from names, EXIF data and files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.crops.naming import NameFacts, name_reader
from rrid_edge.crops.times import check_time_source, time_of
from rrid_edge.errors import printable
from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryInfo, GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.sparing import store_each
from rrid_edge.gallery.shared import stored_mtime

if TYPE_CHECKING:
    from rrid_edge.embedding.pipeline import FileFacts

_ROWS_PER_UPDATE = 5_000


def default_source(info: GalleryInfo, folder: Path) -> str:
    """The source of a folder's crops: ``local`` in a gallery in a folder, ``HOST:FOLDER`` in one on a server.

    Args:
        info: of the gallery.
        folder: of crops.
    """
    if not info.index_type:
        return LOCAL_SOURCE
    import socket

    return f"{socket.gethostname()}:{printable(folder.resolve())}"


@dataclass(frozen=True)
class FactReader:
    """Reads the facts of a folder's crops. It never raises because of a name or a file.

    Args:
        folder: of crops.
        source: name of the folder or box that the crops come from.
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`.
        time_from: where times come from: ``name``, ``exif`` or ``mtime``.

    Raises:
        UsageError: the pattern or ``time_from`` is unknown.
    """

    folder: Path
    source: str
    pattern: str
    time_from: str

    def __post_init__(self) -> None:
        check_time_source(self.time_from)
        object.__setattr__(self, "_read", name_reader(self.pattern))

    def facts(self, path: str) -> NameFacts:
        """The facts of a crop.

        Args:
            path: relative to the folder.
        """
        found: NameFacts = self._read(path)  # type: ignore[attr-defined]
        return replace(found, time=time_of(self.folder / path, self.time_from, found.time))

    def row(self, path: str, file: FileFacts) -> NewRow:
        """A new row of a crop."""
        mtime_ns = stored_mtime(file.mtime_ns)
        return NewRow(path, file.sha256, file.size, mtime_ns, source=self.source, **asdict(self.facts(path)))

    def touched(self, row: GalleryRow, file: FileFacts) -> GalleryRow:
        """A stored row whose file has the same content, but another size or time."""
        assert row.path is not None
        mtime_ns = stored_mtime(file.mtime_ns)
        return replace(row, size=file.size, mtime_ns=mtime_ns, **asdict(self.facts(row.path)))

    def reread(self, row: GalleryRow) -> GalleryRow:
        """A stored row with the facts that its name and file tell now. Without its file it keeps its time."""
        assert row.path is not None
        found = self.facts(row.path)
        if found.time is None and self.time_from != "name" and not (self.folder / row.path).is_file():
            found = replace(found, time=row.time)
        return replace(row, **asdict(found))


def remembered_facts(info: GalleryInfo, pattern: str | None, time_from: str | None) -> tuple[str, str]:
    """The pattern and source of times to use: the given ones, or else those that the gallery remembers."""
    return pattern or info.pattern or "auto", time_from or info.time_from or "name"


def reread_facts(gallery: GalleryStore, info: GalleryInfo, reader: FactReader) -> tuple[int, list[tuple[str, str]]]:
    """Read the facts of all rows of a source again if the pattern or the source of times has changed.

    The gallery then remembers both. Nothing is embedded. Facts that only the old pattern told are removed.

    Args:
        gallery: open for writing.
        info: its facts.
        reader: of the source.

    Returns:
        Number of rows that were changed, and the paths of rows that could not be changed, with the reason.
    """
    if (info.pattern, info.time_from) == (reader.pattern, reader.time_from):
        return 0, []
    # A gallery that never remembered a pattern keeps its facts, unless it is told a pattern of its own.
    is_first = not info.pattern and (reader.pattern, reader.time_from) == ("auto", "name")
    changed, failed = 0, list[tuple[str, str]]()
    for part in [] if is_first else _parts(gallery.rows([reader.source])):
        pairs = [(row, reader.reread(row)) for row in part if row.path is not None]
        different = [new for old, new in pairs if new != old]
        lost = store_each(gallery.update, different) if different else []
        changed += len(different) - len(lost)
        failed += [(row.path or "", reason) for row, reason in lost]
    gallery.remember({"pattern": reader.pattern, "time_from": reader.time_from})
    return changed, failed


def _parts(rows: list[GalleryRow]) -> list[list[GalleryRow]]:
    return [rows[start : start + _ROWS_PER_UPDATE] for start in range(0, len(rows), _ROWS_PER_UPDATE)]
