"""Keeping a gallery in step with its folder: what is new is added, what changed is embedded again, what is gone goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.crops.folder import LazyPaths, scan_images
from rrid_edge.crops.naming import name_reader
from rrid_edge.embedding.pipeline import embed_files
from rrid_edge.embedding.tuning import EmbeddingStats
from rrid_edge.engines.base import Engine
from rrid_edge.errors import FolderUnavailableError, UsageError, printable
from rrid_edge.gallery.base import Gallery
from rrid_edge.gallery.indexing.writing import GalleryWriter
from rrid_edge.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class IndexSettings:
    """How to index.

    Attributes:
        pattern: what names tell; see :func:`rrid_edge.crops.naming.name_reader`.
        workers: decoding threads, or processes; None adds them while the engine waits.
        batch: images a call of the engine, or None to measure.
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
        batch: images a call of the engine: as given, or as measured; 0 where nothing was embedded.
        workers: decoding threads, or processes, at the end.
        waited_for_decoding_s: seconds in which the engine had no image to work on.
        computed_s: seconds in the engine.
        waited_for_disk_s: seconds in which finished batches had to wait for the store.
    """

    rows: int
    added: int
    changed: int
    removed: int
    unchanged: int
    failed: tuple[tuple[str, str], ...] = field(default=())
    skipped: tuple[tuple[str, str], ...] = field(default=())
    waiting: int = 0
    batch: int = 0
    workers: int = 0
    waited_for_decoding_s: float = 0.0
    computed_s: float = 0.0
    waited_for_disk_s: float = 0.0


def index_folder(
    folder: Path,
    gallery: Gallery,
    engine: Engine,
    settings: IndexSettings | None = None,
    *,
    progress: Progress = NO_PROGRESS,
    ready: Callable[[Path], bool] = lambda _path: True,
    stop: Callable[[], bool] = lambda: False,
    verify: bool = True,
) -> IndexReport:
    """Bring ``gallery`` in step with ``folder``.

    Files are compared by size and modification time, then by content: a file that was only touched is not embedded
    again. Decoding, computing and storing overlap. Batches are committed as they come; after a kill the next run goes on.

    Args:
        folder: of crops.
        gallery: open for writing.
        engine: of the gallery's model.
        settings: pattern, threads, batch.
        progress: told the number of files to embed, and how many are done.
        ready: whether a new or changed file is finished; what is not is left as it stands in the gallery.
        stop: asked after every batch; True ends the work there, what was done is committed.
        verify: look for damaged vectors, and embed those crops again.

    Raises:
        UsageError: no folder.
        FolderUnavailableError: no such folder, or it is empty and the gallery is not; the gallery stays as it is.
        OutputError: the disk refused; what was committed stays.
    """
    settings = settings or IndexSettings()
    reader = name_reader(settings.pattern)
    entries, skipped = scan_images(folder)
    stored = gallery.file_stats()
    if stored and not entries:
        raise FolderUnavailableError(
            f"{printable(folder)}: no images in it, and its index holds {len(stored)} crops, which are kept: is a disk not "
            "mounted? To empty the index, remove its folder, or name crops to: rrid-edge gallery forget"
        )
    damaged = {row.path for row in gallery.damaged()} if verify else set()
    gone = [path for path in stored if path not in entries]
    changed = sorted({*_changed(entries, stored), *damaged.intersection(entries)}, key=os.fsencode)
    before = {row.path: row for row in gallery.rows_of([name for name in changed if name in stored])}
    here = len(entries)
    del entries, stored  # one entry a file: a million of them would stay for as long as the indexing takes
    waiting = [name for name in changed if ready(folder / name)]
    if gone:
        gallery.remove(gone)
    progress.start(len(waiting))
    left = len(changed)
    stats = EmbeddingStats()
    batches = embed_files(
        engine, LazyPaths(folder, waiting), workers=settings.workers, batch=settings.batch, stats=stats
    )
    with contextlib.closing(batches), GalleryWriter(folder, gallery, before, damaged, reader) as writer:
        for batch in batches:
            writer.take(batch)
            progress.advance(batch.done)
            left -= batch.done
            if stop():
                break
    lost = [name for name, _ in writer.failed if name in before]
    if lost:
        gallery.remove(lost)
    gallery.finish()
    return IndexReport(
        rows=gallery.info().rows,
        added=writer.added,
        changed=writer.changed,
        removed=len(gone) + len(lost),
        unchanged=here - writer.added - writer.changed - len(writer.failed) - left,
        failed=tuple(sorted(writer.failed)),
        skipped=tuple(sorted((str(path), reason) for path, reason in skipped)),
        waiting=left,
        batch=stats.batch,
        workers=stats.workers,
        waited_for_decoding_s=stats.waited_s,
        computed_s=stats.computed_s,
        waited_for_disk_s=writer.waited_s,
    )


def out_of_step(folder: Path, gallery: Gallery) -> bool:
    """Whether the folder holds other files than the index, by name, size and modification time.

    A file that could not be read is not in the index, so it is looked at again each time. Entries of the index are not
    checked against their checksums here: one that was damaged either differs from its file or does not matter.
    """
    entries, _ = scan_images(folder)
    stored = gallery.file_stats()
    return len(entries) != len(stored) or next(_changed(entries, stored), None) is not None


def _changed(entries: dict[str, os.DirEntry[str]], stored: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Names of files whose size (bytes) and modification time (ns) are not the stored ones; those that went meanwhile too."""
    missing = (-1, -1)
    for name, entry in entries.items():
        try:
            found = entry.stat()
        except OSError:
            yield name
            continue
        size, mtime_ns = stored.get(name, missing)
        if found.st_size != size or found.st_mtime_ns != mtime_ns:
            yield name


def refuse_empty(folder: Path, report: IndexReport) -> None:
    """Refuse a folder that gave no gallery at all.

    Raises:
        UsageError: no image was found, or none could be read.
    """
    if report.rows == 0:
        what = f"none of its {len(report.failed)} images could be read" if report.failed else "no images in it"
        raise UsageError(f"{printable(folder)}: {what}; give a folder of crops (JPEG, PNG, BMP, WebP)")
