"""Embedding one batch of crops: what a worker of a cluster does, and this process without one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rrid_edge.crops.naming import NameFacts, name_reader
from rrid_edge.embedding.pipeline import EmbeddedBatch, FileFacts, embed_files
from rrid_edge.embedding.tuning import EmbeddingStats
from rrid_edge.engines.base import Engine
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.bulk.files import CropFiles, LocalFiles
from rrid_edge.gallery.bulk.reading import BatchReader
from rrid_edge.gallery.bulk.records import BulkSettings, CropBatch, Outcome
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.facts import FactReader
from rrid_edge.gallery.indexing.retention import is_older
from rrid_edge.gallery.indexing.rows import MadeRows, RowReader, made_rows
from rrid_edge.gallery.indexing.writing import GalleryWriter
from rrid_edge.gallery.shared import stored_mtime

_ROOT = Path("/")
"""Folder of crops that are no files: their names are relative to it."""
Lookup = Callable[[Sequence[str]], Mapping[str, GalleryRow]]
"""Finds the stored rows of some paths."""


@dataclass(frozen=True)
class Job:
    """What all workers of a run share. It can be sent to another machine.

    Attributes:
        files: reads the crops that are files.
        follows_folder: whether names and facts are those of a folder on a disk, as `index` reads them.
        source: of the rows.
        pattern: how names are read.
        time_from: where times come from, in a folder on a disk.
        oldest: oldest time (UTC microseconds) that the gallery keeps, or None.
        damaged: paths whose stored vector is damaged.
        settings: of the run.
    """

    files: CropFiles
    follows_folder: bool
    source: str
    pattern: str
    time_from: str = "name"
    oldest: int | None = None
    damaged: frozenset[str] = frozenset()
    settings: BulkSettings = field(default_factory=BulkSettings)


@dataclass(frozen=True)
class _TableReader:
    """Makes rows of what a table and the names tell; the table wins."""

    source: str
    read_name: Callable[[str], NameFacts]
    columns: Mapping[str, Mapping[str, Any]]
    folder: Path = _ROOT

    def row(self, path: str, file: FileFacts) -> NewRow:
        """A new row of a crop."""
        facts = asdict(self.read_name(path)) | dict(self.columns.get(path, {}))
        return NewRow(path, file.sha256, file.size, stored_mtime(file.mtime_ns), source=self.source, **facts)

    def touched(self, row: GalleryRow, file: FileFacts) -> GalleryRow:
        """A stored row of the same content with the facts of now."""
        return replace(row, **vars(self.row(row.path or "", file)))


class _Collector:
    """Keeps the rows of embedded crops for the process that stores them."""

    def __init__(self, reader: RowReader) -> None:
        self._reader = reader
        self.made = MadeRows()

    def take(self, batch: EmbeddedBatch) -> None:
        """Make the rows of a batch."""
        made = made_rows(batch, self._reader, {})
        self.made.rows.extend(made.rows)
        self.made.failed.extend(made.failed)


class BatchEmbedder:
    """Embeds batches of crops with one engine.

    Args:
        job: of the run.
        engine: of the gallery's model.
        lookup: finds stored rows. A crop that is stored with the same content is not embedded again.
        store: that takes the rows; None leaves them in the outcome.
        advance: receives the number of crops that are done.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        lookup: Lookup,
        store: GalleryStore | None = None,
        advance: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._job, self._engine, self._lookup, self._store, self._advance = job, engine, lookup, store, advance
        self._read_name = name_reader(job.pattern)
        self._stats = EmbeddingStats()

    def embed(self, crops: CropBatch) -> Outcome:
        """Embed the crops that the gallery lacks.

        Raises:
            RridEdgeError: the engine or the gallery fails. What was committed is kept.
        """
        reader = self._reader(crops)
        files = BatchReader(crops, self._job.files, reader.folder)
        found = self._lookup(crops.names)
        outcome = Outcome(failed=crops.failed)
        self._advance(outcome.done)
        for part in files.parts({name: row for name, row in found.items() if name not in self._job.damaged}):
            wanted = [name for name in part.outdated if not self._is_expired(crops, name, reader)]
            begun = Outcome(unchanged=part.unchanged, expired=len(part.outdated) - len(wanted))
            self._advance(begun.done)
            outcome += begun
            if wanted:
                outcome += self._embedded(wanted, files, found, reader)
        return outcome

    def _embedded(
        self, wanted: Sequence[str], files: BatchReader, found: Mapping[str, GalleryRow], reader: RowReader
    ) -> Outcome:
        """Embed some crops of a batch, and store them if this object stores."""
        if self._store is None:
            collector = _Collector(reader)
            self._run(wanted, files, reader, collector.take)
            return Outcome(failed=tuple(collector.made.failed), rows=tuple(collector.made.rows))
        with GalleryWriter(self._store, found, self._job.damaged, reader) as writer:
            self._run(wanted, files, reader, writer.take)
        stored = Outcome(
            added=writer.added,
            changed=writer.changed,
            forgotten=len(writer.forgotten),
            failed=tuple(writer.failed),
        )
        return replace(stored, unchanged=len(wanted) - stored.done)  # the state of their file was wrong, or is now

    def _run(
        self, wanted: Sequence[str], files: BatchReader, reader: RowReader, take: Callable[[EmbeddedBatch], None]
    ) -> None:
        """Embed some crops of a batch; each part goes to ``take``."""
        settings = self._job.settings
        batches = embed_files(
            self._engine,
            [reader.folder / name for name in wanted],
            workers=settings.decoding_workers or self._stats.workers or None,
            batch=settings.batch or self._stats.batch or None,
            stats=self._stats,
            fetch=files.fetch,
        )
        with contextlib.closing(batches):
            for batch in batches:
                take(batch)
                self._advance(batch.done)

    def _reader(self, crops: CropBatch) -> RowReader:
        job = self._job
        if job.follows_folder and isinstance(job.files, LocalFiles):
            return FactReader(job.files.folder, job.source, job.pattern, job.time_from)
        return _TableReader(job.source, self._read_name, crops.facts)

    def _is_expired(self, crops: CropBatch, name: str, reader: RowReader) -> bool:
        if self._job.oldest is None:
            return False
        try:
            size, mtime_ns = crops.states.get(name) or (0, 0)
            return is_older(reader.row(name, FileFacts(Path(name), "", size, mtime_ns)), self._job.oldest)
        except Exception:  # storing it tells the reason
            return False
