"""One run of bulk embedding: plan, batches, report. Clusters are in :mod:`rrid_edge.gallery.bulk.on_ray`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Protocol

from rrid_edge.engines.base import Engine
from rrid_edge.errors import RridEdgeError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo, GalleryRow
from rrid_edge.gallery.bulk.embedding import BatchEmbedder, Job
from rrid_edge.gallery.bulk.inputs import CropInput
from rrid_edge.gallery.bulk.records import MOST_FAILURES, BulkReport, BulkSettings, Outcome
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.facts import default_source, remembered_facts
from rrid_edge.gallery.indexing.retention import age_limit, is_older
from rrid_edge.gallery.indexing.rows import store_rows
from rrid_edge.progress import NoProgress, Progress, step
from rrid_edge.stopping import kept_if_stopped


class Listener(Progress, Protocol):
    """Somebody who follows a run: how many crops are done, and which failed."""

    def failed(self, name: str, reason: str) -> None:
        """A crop could not be read or stored."""


class _Silent(NoProgress):
    """Nobody wants to know."""

    def failed(self, name: str, reason: str) -> None:
        """Nothing happens."""


SILENT = _Silent()
"""The default of functions that take a :class:`Listener`."""


def embed_many(
    crops: CropInput,
    gallery: GalleryStore,
    engine: Engine,
    settings: BulkSettings | None = None,
    listener: Listener = SILENT,
) -> BulkReport:
    """Embed the crops of an input that a gallery lacks, in this process.

    Batches are committed as they come, so a run after a kill continues. Rows are never removed.

    Args:
        crops: see :func:`rrid_edge.gallery.bulk.inputs.open_input`.
        gallery: open for writing.
        engine: of the gallery's model.
        settings: source, pattern, batch size.
        listener: follows the run.

    Raises:
        UsageError: the gallery reads names by another pattern, or takes times from files that the input lacks.
        OutputError: the disk refused a write; committed rows are kept.
    """
    job = planned(crops, gallery, settings or BulkSettings())
    listener.start(crops.count())
    known = partial(stored_rows, gallery, source=job.source)
    embedder = BatchEmbedder(job, engine, known, gallery, listener.advance)
    tally = Tally(job.source, listener)
    with kept_if_stopped(partial(kept_in, gallery)):
        for batch in crops.batches():
            tally.take(embedder.embed(batch))
        with step("finishing the index"):
            gallery.finish()
        return tally.report(gallery.info())


def kept_in(gallery: GalleryStore) -> str:
    """What a run that was stopped has left in a gallery, in one line."""
    try:
        return f"the gallery holds {gallery.info().rows:,} crops now"
    except RridEdgeError:
        return "crops that are stored are kept"


def planned(crops: CropInput, gallery: GalleryStore, settings: BulkSettings) -> Job:
    """What the workers of a run share. The gallery remembers the pattern.

    Raises:
        UsageError: the gallery reads names by another pattern, or takes times from files that the input lacks.
    """
    info = gallery.info()
    pattern, time_from = remembered_facts(info, settings.pattern, None)
    if info.pattern and info.pattern != pattern:
        raise UsageError(
            f"{gallery.where}: its names are read by the pattern {info.pattern!r}, not {pattern!r}: leave the pattern "
            "out, or read all names again with: rrid-edge index FOLDER --pattern PATTERN",
            parameter="pattern",
        )
    if time_from != "name" and crops.folder is None:
        raise UsageError(
            f"{gallery.where}: it takes times from {time_from!r}, which {printable(crops.text)} cannot tell; expected "
            "a folder on a disk: use a gallery of its own",
            parameter="input",
        )
    if not info.pattern:
        gallery.remember({"pattern": pattern, "time_from": time_from})
    source = settings.source or crops.source or default_source(info, crops.folder or crops.files.folder)  # type: ignore[attr-defined]
    damaged = frozenset(row.path for row in gallery.damaged() if row.path is not None and row.source == source)
    folder = crops.folder is not None
    return Job(crops.files, folder, source, pattern, time_from, age_limit(info), damaged, settings)


def stored_rows(gallery: GalleryStore, names: Iterable[str], source: str) -> dict[str, GalleryRow]:
    """The stored rows of some paths, by path."""
    return {row.path: row for row in gallery.rows_of(list(names), source) if row.path is not None}


def store_outcome(gallery: GalleryStore, outcome: Outcome, job: Job) -> Outcome:
    """Store the rows of an outcome in one commit; returns what became of them.

    Args:
        gallery: open for writing.
        outcome: of a worker that stored nothing.
        job: of the run.
    """
    kept_out = gallery.kept_out([row.sha256 for row, _ in outcome.rows]) if outcome.rows else set()
    rows = [(row, vector) for row, vector in outcome.rows if row.sha256 not in kept_out]
    young = [(row, vector) for row, vector in rows if not is_older(row, job.oldest)]
    known = stored_rows(gallery, [row.path or "" for row, _ in young], job.source) if young else {}
    lost = {row.path or "": reason for row, reason in store_rows(gallery, young)}
    stored = [row.path for row, _ in young if (row.path or "") not in lost]
    changed = sum(path in known for path in stored)
    return replace(
        outcome,
        added=outcome.added + len(stored) - changed,
        changed=outcome.changed + changed,
        forgotten=outcome.forgotten + len(outcome.rows) - len(rows),
        expired=outcome.expired + len(rows) - len(young),
        failed=(*outcome.failed, *lost.items()),
        rows=(),
    )


class Tally:
    """Adds up outcomes.

    Args:
        source: of the rows.
        listener: hears of each crop that failed.
    """

    def __init__(self, source: str, listener: Listener) -> None:
        self._listener = listener
        self._sum = BulkReport(0, source)

    def take(self, outcome: Outcome) -> None:
        """Add an outcome whose rows are stored."""
        for name, reason in outcome.failed:
            self._listener.failed(name, reason)
        total = self._sum
        counts = ("added", "changed", "unchanged", "forgotten", "expired")
        self._sum = replace(
            total,
            **{name: getattr(total, name) + getattr(outcome, name) for name in counts},
            failures=total.failures + len(outcome.failed),
            failed=(*total.failed, *outcome.failed)[:MOST_FAILURES],
        )

    def report(self, info: GalleryInfo, engines: int = 0) -> BulkReport:
        """The report of the run.

        Args:
            info: of the gallery, after the run.
            engines: that computed on a cluster.
        """
        return replace(self._sum, rows=info.rows, engines=engines)
