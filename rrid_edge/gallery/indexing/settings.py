"""How a folder is indexed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class IndexSettings:
    """How to index.

    Attributes:
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`. None means the pattern that
            the gallery remembers, or ``auto`` for a new one.
        workers: decoding threads, or processes; None adds them while the engine waits.
        batch: images per call of the engine; None measures the best number.
        time_from: where times come from: ``name``, ``exif`` or ``mtime``. None means what the gallery remembers, or
            ``name`` for a new one.
        source: name of the folder or box; only its rows are compared with the folder. None means
            :func:`rrid_edge.gallery.indexing.facts.default_source`.
        allow_removals: remove rows also if whole sub-folders or more than a fifth of the files vanished.
        follow_links: read links to files outside the folder too.
    """

    pattern: str | None = None
    workers: int | None = None
    batch: int | None = None
    time_from: str | None = None
    source: str | None = None
    allow_removals: bool = False
    follow_links: bool = False


@dataclass(frozen=True)
class IndexControl:
    """What one indexing run may do.

    Attributes:
        ready: whether a new or changed file may be read; other files are left for a later run.
        stop: called after every batch; True ends the run. Finished batches are committed.
        verify: check all stored vectors, embed damaged crops again, and try files again that could not be decoded.
        remove: remove rows of deleted files. A run for a query does not: it only adds, and keeps all facts.
        expire: forget crops that are older than the gallery keeps.
    """

    ready: Callable[[Path], bool] = lambda _path: True
    stop: Callable[[], bool] = lambda: False
    verify: bool = True
    remove: bool = True
    expire: bool = True
