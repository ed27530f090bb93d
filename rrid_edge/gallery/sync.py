"""Keeping a gallery in step with its folder: what is new is added, what changed is embedded again, what is gone goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embed import EmbeddedBatch, embed_files
from rrid_edge.engines.base import Engine
from rrid_edge.errors import FolderGoneError, UsageError, printable
from rrid_edge.files import walk_images
from rrid_edge.gallery.base import Gallery, GalleryRow, NewRow
from rrid_edge.gallery.naming import NameFacts, name_reader

COMMIT_ROWS = 256
"""Rows of one commit: each costs 1 to 3 ms on a good disk, more on eMMC."""


@dataclass(frozen=True)
class IndexSettings:
    """How to index.

    Attributes:
        pattern: what names tell; see :func:`rrid_edge.gallery.naming.name_reader`.
        workers: decoding threads, or None.
        batch: images a call of the engine, or None.
    """

    pattern: str = "auto"
    workers: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class IndexReport:
    """What one indexing did.

    Attributes:
        rows: crops in the gallery afterwards.
        added: crops that are new.
        changed: crops whose content changed, or whose stored vector was damaged.
        removed: crops whose file is gone or no longer readable.
        unchanged: crops left as they were.
        failed: files that could not be read, with the reason.
        skipped: links and special files that were not opened, with the reason.
        waiting: files that were left for later, because they were not finished or the work was stopped.
    """

    rows: int
    added: int
    changed: int
    removed: int
    unchanged: int
    failed: tuple[tuple[str, str], ...] = field(default=())
    skipped: tuple[tuple[str, str], ...] = field(default=())
    waiting: int = 0


def index_folder(
    folder: Path,
    gallery: Gallery,
    engine: Engine,
    settings: IndexSettings | None = None,
    *,
    begin: Callable[[int], None] = lambda _total: None,
    advance: Callable[[int], None] = lambda _done: None,
    ready: Callable[[Path], bool] = lambda _path: True,
    stop: Callable[[], bool] = lambda: False,
    verify: bool = True,
) -> IndexReport:
    """Bring ``gallery`` in step with ``folder``.

    Files are compared by size and modification time, then by content: a file that was only touched is not embedded
    again. Batches are committed as they come; after a kill the next run goes on.

    Args:
        folder: of crops.
        gallery: open for writing.
        engine: of the gallery's model.
        settings: pattern, threads, batch.
        begin: called with the number of files to embed.
        advance: called with the number of files done since the last call.
        ready: whether a new or changed file is finished; what is not is left as it stands in the gallery.
        stop: asked after every batch; True ends the work there, what was done is committed.
        verify: look for damaged vectors, and embed those crops again.

    Raises:
        UsageError: no folder.
        FolderGoneError: no such folder, or it is empty and the gallery is not; the gallery stays as it is.
        OutputError: the disk refused; what was committed stays.
    """
    settings = settings or IndexSettings()
    reader = name_reader(settings.pattern)
    images, skipped = walk_images(folder)
    here = {path.relative_to(folder).as_posix(): path for path in images}
    stored = {row.path: row for row in gallery.rows()}
    if stored and not here:
        raise FolderGoneError(
            f"{printable(folder)}: no images in it, and its index holds {len(stored)} crops, which are kept: is a disk not "
            "mounted? To empty the index, remove its folder, or name crops to: rrid-edge gallery forget"
        )
    damaged = {row.path for row in gallery.damaged()} if verify else set()
    gone = [path for path in stored if path not in here]
    changed = [name for name, path in here.items() if name in damaged or not _same_stat(stored.get(name), path)]
    waiting = [name for name in changed if ready(here[name])]
    if gone:
        gallery.remove(gone)
    begin(len(waiting))
    writer = _Writer(folder, gallery, stored, damaged, reader)
    left = len(changed)
    for batch in embed_files(engine, [here[name] for name in waiting], workers=settings.workers, batch=settings.batch):
        writer.take(batch)
        advance(batch.done)
        left -= batch.done
        if stop():
            break
    writer.commit()
    lost = [name for name, _ in writer.failed if name in stored]
    if lost:
        gallery.remove(lost)
    gallery.finish()
    return IndexReport(
        rows=gallery.info.rows,
        added=writer.added,
        changed=writer.changed,
        removed=len(gone) + len(lost),
        unchanged=len(here) - writer.added - writer.changed - len(writer.failed) - left,
        failed=tuple(writer.failed),
        skipped=tuple((str(path), reason) for path, reason in skipped),
        waiting=left,
    )


def out_of_step(folder: Path, gallery: Gallery) -> bool:
    """Whether the folder holds other files than the index, by name, size and modification time.

    A file that could not be read is not in the index, so it is looked at again each time.
    """
    here = {path.relative_to(folder).as_posix(): path for path in walk_images(folder)[0]}
    stored = {row.path: row for row in gallery.rows()}
    return here.keys() != stored.keys() or any(not _same_stat(stored[name], path) for name, path in here.items())


def _same_stat(row: GalleryRow | None, path: Path) -> bool:
    if row is None:
        return False
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (row.size, row.mtime_ns)


class _Writer:
    """Collects embedded batches and commits them some hundred rows at a time."""

    def __init__(
        self,
        folder: Path,
        gallery: Gallery,
        stored: dict[str, GalleryRow],
        damaged: set[str],
        reader: Callable[[str], NameFacts],
    ) -> None:
        self._folder, self._gallery, self._stored, self._damaged = folder, gallery, stored, damaged
        self._reader = reader
        self._rows: list[NewRow] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._touched: list[GalleryRow] = []
        self.added = self.changed = 0
        self.failed: list[tuple[str, str]] = []

    def take(self, batch: EmbeddedBatch) -> None:
        self.failed += [(path.relative_to(self._folder).as_posix(), reason) for path, reason in batch.failed]
        for facts, vector in zip(batch.files, batch.descriptors, strict=True):
            name = facts.path.relative_to(self._folder).as_posix()
            old = self._stored.get(name)
            if old is not None and old.sha256 == facts.sha256 and name not in self._damaged:
                self._touched.append(replace(old, size=facts.size, mtime_ns=facts.mtime_ns))
                continue
            told = self._reader(name)
            self._rows.append(
                NewRow(
                    name,
                    facts.sha256,
                    facts.size,
                    facts.mtime_ns,
                    told.camera,
                    told.person,
                    told.time,
                )
            )
            self._vectors.append(vector)
            self.added += old is None
            self.changed += old is not None
        if len(self._rows) >= COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        if self._rows:
            self._gallery.add(self._rows, np.stack(self._vectors))
        self._gallery.update_stat(self._touched)
        self._rows, self._vectors, self._touched = [], [], []


def refuse_empty(folder: Path, report: IndexReport) -> None:
    """Refuse a folder that gave no gallery at all.

    Raises:
        UsageError: no image was found, or none could be read.
    """
    if report.rows == 0:
        what = f"none of its {len(report.failed)} images could be read" if report.failed else "no images in it"
        raise UsageError(f"{printable(folder)}: {what}; give a folder of crops (JPEG, PNG, BMP, WebP)")
