"""Indexing a folder: embeds new and changed files, and removes rows of deleted files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrid_edge.crops.folder import LazyPaths, describe_endings, describe_outside
from rrid_edge.crops.formats import FORMATS
from rrid_edge.crops.reading import why_no_images
from rrid_edge.embedding.pipeline import EmbeddedBatch, embed_files
from rrid_edge.embedding.tuning import EmbeddingStats
from rrid_edge.engines.base import Engine
from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.contract import GalleryStore, StoreOwner, store_of
from rrid_edge.gallery.indexing.comparison import Changes, compare, refuse_unavailable
from rrid_edge.gallery.indexing.facts import FactReader, default_source, remembered_facts, reread_facts
from rrid_edge.gallery.indexing.left_out import FileState, undecodable_state
from rrid_edge.gallery.indexing.removal import Removals, allowed_removals, is_gone
from rrid_edge.gallery.indexing.retention import Expired, forget_expired
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.indexing.touched import update_touched
from rrid_edge.gallery.indexing.writing import GalleryWriter
from rrid_edge.progress import NO_PROGRESS, Progress, step
from rrid_edge.stopping import kept_if_stopped


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
        skipped: links, special files and folders that were not opened, with the reason.
        waiting: files left for a later run, because they were not ready or the run was stopped.
        missing: crops whose file is not there now, and whose rows stay.
        refused: why removals were refused, in one line; empty if they were not.
        unexamined: crops whose file, or a folder of it, the system refused to examine; their rows stay.
        endings: number of files with endings that no image has, by their ending.
        outside: links that were not followed, because they lead out of the folder. Their rows stay.
        forgotten: files that were left out because their content was forgotten.
        left_out: files that were not tried again, because they have not changed since they could not be decoded, were
            forgotten, or became older than the gallery keeps.
        reread: rows whose facts changed because of a new pattern or source of times.
        expired: ids of crops that were forgotten because they are older than the gallery keeps.
        erasure: what is left of them, where it could not be erased.
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
    endings: Mapping[str, int] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    waiting: int = 0
    missing: int = 0
    refused: str = ""
    unexamined: int = 0
    forgotten: int = 0
    left_out: int = 0
    reread: int = 0
    expired: tuple[int, ...] = ()
    erasure: tuple[str, ...] = ()
    batch: int = 0
    workers: int = 0
    waited_for_decoding_s: float = 0.0
    computed_s: float = 0.0
    waited_for_disk_s: float = 0.0


def index_folder(
    folder: Path,
    gallery: GalleryStore | StoreOwner,
    engine: Engine,
    settings: IndexSettings | None = None,
    *,
    progress: Progress = NO_PROGRESS,
    control: IndexControl | None = None,
) -> IndexReport:
    """Update ``gallery`` so that it holds the crops of ``folder``.

    Files are compared by size and modification time, then by content: a file that was only touched is not embedded
    again. Batches are committed as they come, so a run after a kill continues from the last commit. Rows of other
    sources, and rows without a file, stay as they are, except that the gallery's retention holds for all rows.

    Rows of deleted files are removed last. They stay if a whole sub-folder vanished, or more than a fifth of the
    source's files, unless the settings allow it; ``refused`` then says so. Rows stay too if the system refused to
    examine their file or folder.

    Args:
        folder: of crops.
        gallery: open for writing.
        engine: of the gallery's model.
        settings: file names, source, workers, batch size.
        progress: receives the number of files to embed, and how many are done.
        control: which files may be read, when to stop, and whether to remove.

    Raises:
        UsageError: ``folder`` is not a folder, or the pattern is unknown.
        FolderUnavailableError: the folder is missing, or empty although the gallery is not. The gallery is not changed.
        OutputError: the disk refused a write; committed rows are kept.
    """
    settings, control = settings or IndexSettings(), control or IndexControl()
    gallery = store_of(gallery)
    info = gallery.info()
    source = settings.source or default_source(info, folder)
    reader = FactReader(folder, source, *remembered_facts(info, settings.pattern, settings.time_from))
    changes = compare(gallery, reader, verify=control.verify, follow_links=settings.follow_links)
    if control.remove and not settings.allow_removals:
        refuse_unavailable(folder, changes)
    reread, unchanged = reread_facts(gallery, info, reader)
    run = _Run(gallery, reader, changes, unchanged)
    with kept_if_stopped(run.kept):
        run.embed(engine, settings, control, progress)
        return _finished(run, changes, engine, (settings, control), reread)


def _finished(
    run: _Run, changes: Changes, engine: Engine, asked: tuple[IndexSettings, IndexControl], reread: int
) -> IndexReport:
    """Remove rows of deleted files, and end the run."""
    (settings, control), gallery, source = asked, run.gallery, run.reader.source
    undecodable = run.undecodable(engine)
    removals = _removals(changes, undecodable, run.writer, settings) if control.remove else None
    if removals is not None and removals.paths:
        gallery.remove([row.id for row in gallery.rows_of(removals.paths, source)])
    changes.left_out.remember(gallery, source, run.tried, unreadable=undecodable, forgotten=run.writer.forgotten)
    expired = forget_expired(gallery, gallery.info()) if control.remove and control.expire else Expired()
    with step("finishing the index"):
        gallery.finish()
    return run.report(removals or Removals((), len(changes.deleted)), reread, expired)


def _removals(changes: Changes, undecodable: Iterable[str], writer: GalleryWriter, settings: IndexSettings) -> Removals:
    """Rows of deleted files, and of files whose content is no image or is forgotten now."""
    replaced = {path for path in (*undecodable, *writer.forgotten) if path in changes.stored}
    gone = [path for path in changes.deleted if is_gone(writer.folder / path)]
    vanished = [*gone, *changes.unreadable, *sorted(replaced)]
    if settings.allow_removals:
        return Removals(vanished)
    return allowed_removals(vanished, changes.filled, changes.rows)


class _Run:
    """The embedding part of one run.

    Attributes:
        gallery: that is written.
        reader: of the folder's facts.
        writer: what was stored.
        tried: files that were read.
    """

    def __init__(
        self, gallery: GalleryStore, reader: FactReader, changes: Changes, unchanged: list[tuple[str, str]]
    ) -> None:
        self.gallery, self.reader, self._changes, self._unchanged = gallery, reader, changes, unchanged
        self._stats = EmbeddingStats()
        self._done = self._touched = 0
        self.tried: Sequence[str] = ()
        self.writer = GalleryWriter(gallery, changes.stored, changes.damaged, reader)

    def embed(self, engine: Engine, settings: IndexSettings, control: IndexControl, progress: Progress) -> None:
        """Embed and store the outdated files that are ready."""
        folder = self.reader.folder
        outdated = [path for path in self._changes.outdated if control.ready(folder / path)]
        intact = {path: row for path, row in self._changes.stored.items() if path not in self._changes.damaged}
        touched = update_touched(self.gallery, self.reader, intact, outdated, control.stop)
        self._done = self._touched = len(touched)
        ready = [] if touched and control.stop() else [path for path in outdated if path not in touched]
        progress.start(len(ready))
        paths = LazyPaths(folder, ready)
        batches = embed_files(engine, paths, workers=settings.workers, batch=settings.batch, stats=self._stats)
        with contextlib.closing(batches):
            self._store(batches, progress, control.stop)
        self.tried = ready if self._done == len(outdated) else ()  # after a stop, not all of them were read

    def _store(self, batches: Iterable[EmbeddedBatch], progress: Progress, stop: Callable[[], bool]) -> None:
        """Commit batches until they end or ``stop`` returns True."""
        with self.writer:
            for batch in batches:
                self.writer.take(batch)
                progress.advance(batch.done)
                self._done += batch.done
                if stop():
                    break

    def kept(self) -> str:
        """What of this run is stored, in one line."""
        stored, asked = self.writer.added + self.writer.changed, len(self._changes.outdated) - self._touched
        return f"{stored:,} of {asked:,} new and changed crops are indexed"

    def undecodable(self, engine: Engine) -> dict[str, FileState]:
        """Files of this run that can be read but are no images, with their state."""
        height, width = engine.spec.height_px, engine.spec.width_px
        states = {path: undecodable_state(self.reader.folder / path, height, width) for path, _ in self.writer.failed}
        return {path: state for path, state in states.items() if state is not None}

    def report(self, removals: Removals, reread: int, expired: Expired) -> IndexReport:
        """The report of the run."""
        changes, writer, stats = self._changes, self.writer, self._stats
        left_out = changes.left + changes.expired
        waiting = len(changes.outdated) - self._done
        stored = writer.added + writer.changed
        return IndexReport(
            rows=self.gallery.info().rows,
            added=writer.added,
            changed=writer.changed,
            removed=len(removals.paths),
            unchanged=changes.files
            - stored
            - len(writer.failed)
            - len(writer.forgotten)
            - left_out
            - waiting
            - changes.unknown,
            failed=tuple(sorted((*writer.failed, *self._unchanged))),
            skipped=tuple(sorted(changes.skipped)),
            endings=changes.endings,
            outside=changes.outside,
            waiting=waiting,
            missing=removals.kept,
            refused=removals.reason,
            unexamined=changes.unexamined,
            forgotten=len(writer.forgotten) + changes.forgotten,
            left_out=left_out,
            reread=reread,
            expired=expired.ids,
            erasure=expired.left,
            batch=stats.batch,
            workers=stats.workers,
            waited_for_decoding_s=stats.waited_s,
            computed_s=stats.computed_s,
            waited_for_disk_s=writer.waited_s,
        )


def refuse_empty(folder: Path, report: IndexReport) -> None:
    """Refuse a folder whose gallery is empty after indexing.

    Raises:
        UsageError: the folder has no images, or none of them could be read.
    """
    if report.rows == 0:
        reason = f"none of its {len(report.failed)} images could be read" if report.failed else why_no_images(folder)
        left = "; ".join(filter(None, (describe_outside(report.outside), describe_endings(report.endings))))
        reason += f" ({left})" if left else ""
        raise UsageError(f"{printable(folder)}: {reason}; give a folder of crops: {FORMATS}")
