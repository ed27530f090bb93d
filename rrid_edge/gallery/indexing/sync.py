"""Indexing a folder: embeds new and changed files, and removes rows of deleted files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.crops.folder import LazyPaths, scan_images
from rrid_edge.crops.naming import name_reader
from rrid_edge.embedding.pipeline import EmbeddedBatch, embed_files
from rrid_edge.embedding.tuning import EmbeddingStats
from rrid_edge.engines.base import Engine
from rrid_edge.errors import FolderUnavailableError, UsageError, printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.writing import GalleryWriter
from rrid_edge.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class IndexSettings:
    """How to index.

    Attributes:
        pattern: how file names are read; see :func:`rrid_edge.crops.naming.name_reader`.
        workers: decoding threads, or processes; None adds them while the engine waits.
        batch: images per call of the engine; None measures the best number.
    """

    pattern: str = "auto"
    workers: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class IndexControl:
    """Hooks that limit one indexing run.

    Attributes:
        ready: whether a new or changed file may be read; other files are left for a later run.
        stop: called after every batch; True ends the run. Finished batches are committed.
        verify: check all stored vectors, and embed damaged crops again.
    """

    ready: Callable[[Path], bool] = lambda _path: True
    stop: Callable[[], bool] = lambda: False
    verify: bool = True


@dataclass(frozen=True)
class IndexReport:
    """The result of one indexing run.

    Attributes:
        rows: crops in the gallery afterwards.
        added: new crops.
        changed: crops whose content changed, or whose stored vector was damaged.
        removed: crops whose file was deleted or is no longer readable.
        unchanged: crops that were not stored again.
        failed: files that could not be read, with the reason.
        skipped: links and special files that were not opened, with the reason.
        waiting: files left for a later run, because they were not ready or the run was stopped.
        batch: images per call of the engine; 0 if nothing was embedded.
        workers: decoding threads, or processes, at the end.
        waited_for_decoding_s: seconds for which the engine waited for images.
        computed_s: seconds in the engine.
        waited_for_disk_s: seconds for which finished batches waited for the store.
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


@dataclass(frozen=True)
class _Changes:
    """How a folder differs from its gallery.

    Attributes:
        files: number of image files in the folder.
        outdated: paths of new, changed or damaged crops, by their bytes.
        deleted: paths of rows whose file does not exist.
        stored: rows of ``outdated`` paths, by path.
        damaged: paths of rows whose vector is damaged.
        skipped: links and special files, with the reason.
    """

    files: int
    outdated: list[str]
    deleted: list[str]
    stored: dict[str, GalleryRow]
    damaged: Set[str]
    skipped: list[tuple[str, str]]


def index_folder(
    folder: Path,
    gallery: GalleryStore,
    engine: Engine,
    settings: IndexSettings | None = None,
    *,
    progress: Progress = NO_PROGRESS,
    control: IndexControl | None = None,
) -> IndexReport:
    """Update ``gallery`` so that it holds the crops of ``folder``.

    Files are compared by size and modification time, then by content: a file that was only touched is not embedded
    again. Batches are committed as they come, so a run after a kill continues from the last commit.

    Args:
        folder: of crops.
        gallery: open for writing.
        engine: of the gallery's model.
        settings: file names, workers, batch size.
        progress: receives the number of files to embed, and how many are done.
        control: which files may be read, and when to stop.

    Raises:
        UsageError: ``folder`` is not a folder, or the pattern is unknown.
        FolderUnavailableError: the folder is missing, or empty although the gallery is not. The gallery is not changed.
        OutputError: the disk refused a write; committed rows are kept.
    """
    settings, control = settings or IndexSettings(), control or IndexControl()
    reader = name_reader(settings.pattern)
    changes = _compare(folder, gallery, verify=control.verify)
    ready = [path for path in changes.outdated if control.ready(folder / path)]
    if changes.deleted:
        gallery.remove(changes.deleted)
    progress.start(len(ready))
    stats = EmbeddingStats()
    paths = LazyPaths(folder, ready)
    batches = embed_files(engine, paths, workers=settings.workers, batch=settings.batch, stats=stats)
    writer = GalleryWriter(folder, gallery, changes.stored, changes.damaged, reader)
    with contextlib.closing(batches):
        done = _store(batches, writer, progress, control.stop)
    waiting = len(changes.outdated) - done
    unreadable = [path for path, _ in writer.failed if path in changes.stored]
    if unreadable:
        gallery.remove(unreadable)
    gallery.finish()
    removed = len(changes.deleted) + len(unreadable)
    return _report(gallery.info().rows, changes, writer, stats, removed=removed, waiting=waiting)


def _compare(folder: Path, gallery: GalleryStore, *, verify: bool) -> _Changes:
    """Compare a folder with its gallery. With ``verify`` all stored vectors are read."""
    entries, skipped = scan_images(folder)
    stats = gallery.file_stats()
    if stats and not entries:
        raise FolderUnavailableError(
            f"{printable(folder)}: no images in it, and its index holds {len(stats)} crops, which are kept: is a disk "
            "not mounted? To empty the index, remove its folder, or remove crops with: rrid-edge gallery forget"
        )
    damaged = {row.path for row in gallery.damaged()} if verify else set()
    deleted = [path for path in stats if path not in entries]
    outdated = sorted({*_outdated(entries, stats), *damaged.intersection(entries)}, key=os.fsencode)
    stored = {row.path: row for row in gallery.rows_of([path for path in outdated if path in stats])}
    reasons = [(str(path), reason) for path, reason in skipped]
    # Only the counts of the listing are kept: with a million files it would occupy memory until the end of the run.
    return _Changes(len(entries), outdated, deleted, stored, damaged, reasons)


def _store(
    batches: Iterable[EmbeddedBatch], writer: GalleryWriter, progress: Progress, stop: Callable[[], bool]
) -> int:
    """Commit batches until they end or ``stop`` returns True; returns the number of files done."""
    done = 0
    with writer:
        for batch in batches:
            writer.take(batch)
            progress.advance(batch.done)
            done += batch.done
            if stop():
                break
    return done


def _report(
    rows: int, changes: _Changes, writer: GalleryWriter, stats: EmbeddingStats, *, removed: int, waiting: int
) -> IndexReport:
    return IndexReport(
        rows=rows,
        added=writer.added,
        changed=writer.changed,
        removed=removed,
        unchanged=changes.files - writer.added - writer.changed - len(writer.failed) - waiting,
        failed=tuple(sorted(writer.failed)),
        skipped=tuple(sorted(changes.skipped)),
        waiting=waiting,
        batch=stats.batch,
        workers=stats.workers,
        waited_for_decoding_s=stats.waited_s,
        computed_s=stats.computed_s,
        waited_for_disk_s=writer.waited_s,
    )


def needs_indexing(folder: Path, gallery: GalleryStore) -> bool:
    """Whether the files of a folder differ from its gallery's rows in name, size or modification time.

    Unreadable files have no row, so a folder with such files always differs. Checksums are not verified.

    Raises:
        UsageError: ``folder`` is not a folder.
    """
    entries, _ = scan_images(folder)
    stats = gallery.file_stats()
    return len(entries) != len(stats) or next(_outdated(entries, stats), None) is not None


def _outdated(entries: Mapping[str, os.DirEntry[str]], stats: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Paths of files whose size (bytes) or modification time (ns) is not the stored one, or which vanished."""
    unknown = (-1, -1)
    for path, entry in entries.items():
        try:
            stat = entry.stat()
        except OSError:
            yield path
            continue
        if (stat.st_size, stat.st_mtime_ns) != stats.get(path, unknown):
            yield path


def refuse_empty(folder: Path, report: IndexReport) -> None:
    """Refuse a folder whose gallery is empty after indexing.

    Raises:
        UsageError: the folder has no images, or none of them could be read.
    """
    if report.rows == 0:
        reason = f"none of its {len(report.failed)} images could be read" if report.failed else "no images in it"
        raise UsageError(f"{printable(folder)}: {reason}; give a folder of crops (JPEG, PNG, BMP, WebP)")
