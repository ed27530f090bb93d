"""With ``watch``, the service itself keeps each gallery in step with its folder, behind the requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import RridEdgeError, UsageError, printable, unforeseen
from rrid_edge.gallery.indexing.audit import audit
from rrid_edge.gallery.indexing.listening import import_watchfiles
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import IndexReport
from rrid_edge.gallery.indexing.watch import WatchSettings, watch_folder
from rrid_edge.serve.events import EventLog
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.worker import EngineWorker

SETTLE_S: Final = 0.5
"""Seconds for which a file must stay the same before it is read."""
IMAGES_PER_CALL: Final = 4
"""A request waits for one call of the engine at most; larger calls gain little throughput."""
_BATCH: Final = 16
_DECODERS: Final = 2
_PROGRESS_S: Final = 0.5
_AGAIN_S: Final = 30.0
"""Seconds after which a watch that failed begins again."""
_LOGGER: Final = logging.getLogger("rrid_edge.serve")


def refuse_unwatchable(galleries: Sequence[ServedGallery]) -> None:
    """Refuse to follow galleries without folders of crops.

    Raises:
        UsageError: names the first gallery whose folder of crops is not known.
        MissingDependencyError: watchfiles is not installed.
    """
    import_watchfiles()
    for gallery in galleries:
        if gallery.folder is None:
            raise UsageError(
                f"{printable(gallery.name)}: this gallery has no folder of crops on this machine that could be "
                "followed; give the folder of crops, or run rrid-edge index beside the service",
                parameter="watch",
            )


class SharedEngine(Closable):
    """An engine for indexing that shares the worker with requests, which go first; see :class:`Engine`.

    Args:
        worker: whose engine is open.
    """

    def __init__(self, worker: EngineWorker) -> None:
        assert worker.engine is not None
        self._worker = worker
        self.spec, self.runtime, self.arithmetic = worker.spec, worker.engine.runtime, worker.engine.arithmetic
        self.max_batch = max(worker.engine.max_batch, _BATCH)
        self._per_call = min(IMAGES_PER_CALL, worker.engine.max_batch)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of a batch, in several calls of the engine between which requests are computed."""
        parts = [images[start : start + self._per_call] for start in range(0, len(images), self._per_call)]
        done = [self._worker.run_behind(part) for part in parts]
        return np.concatenate(done) if done else np.empty((0, self.spec.dimension), np.float32)

    def close(self) -> None:
        """Nothing: the service closes the engine."""


class GalleryWatcher(Closable):
    """Keeps a gallery in step with its folder, in a thread of its own. Errors are logged, and it tries again.

    Args:
        gallery: with a folder of crops.
        events: receives ``index-progress``. New crops are published by whoever follows the commits.
    """

    def __init__(self, gallery: ServedGallery, events: EventLog) -> None:
        assert gallery.folder is not None
        self._gallery, self._folder = gallery, gallery.folder
        self.progress = _Progress(events, gallery.name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{gallery.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the batch that is embedded now, commit it, and end; safe to call twice."""
        self._stop.set()
        self._thread.join()

    def indexed(self, report: IndexReport) -> None:
        """Log a run, and write an audit line of crops that are older than the gallery keeps."""
        self.progress.end()
        if report.expired:
            audit(
                self._gallery.location,
                "expired",
                ids=report.expired,
                rows=len(report.expired),
                left=len(report.erasure),
            )
        _LOGGER.info(
            "gallery %s: %d crops (%d added, %d changed, %d removed, %d failed, %d expired)",
            self._gallery.name,
            report.rows,
            report.added,
            report.changed,
            report.removed,
            len(report.failed),
            len(report.expired),
        )

    def warn(self, message: str) -> None:
        """Log a warning about a file or a problem."""
        _LOGGER.warning("gallery %s: %s", self._gallery.name, message)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as error:
                self.warn(error.message if isinstance(error, RridEdgeError) else unforeseen(error))
                self._stop.wait(_AGAIN_S)

    def _follow(self) -> None:
        gallery = self._gallery
        gallery.worker.wait_until_open()
        settings = WatchSettings(
            settle_s=SETTLE_S,
            index=IndexSettings(workers=_DECODERS, batch=_BATCH),
            pause=lambda: gallery.is_wanted,
            progress=self.progress,
        )
        engine = SharedEngine(gallery.worker)
        watch_folder(self._folder, gallery.writing, engine, settings, stop=self._stop, listener=self)


class _Progress:
    """Publishes how far indexing is, twice a second at most.

    Args:
        events: receives the events.
        gallery: name of the gallery.
    """

    def __init__(self, events: EventLog, gallery: str) -> None:
        self._events, self._gallery = events, gallery
        self._done = self._total = 0
        self._published_s = 0.0

    def start(self, total: int | None) -> None:
        """A run begins."""
        self._done, self._total = 0, total or 0
        self._published_s = time.monotonic()  # a run of a moment publishes its end only

    def advance(self, count: int) -> None:
        """``count`` more files are done."""
        self._done += count
        if time.monotonic() - self._published_s >= _PROGRESS_S:
            self._publish()

    def end(self) -> None:
        """A run has changed the gallery, and has ended."""
        if self._total:
            self._publish()

    def _publish(self) -> None:
        self._published_s = time.monotonic()
        self._events.publish("index-progress", self._gallery, {"done": self._done, "total": self._total})
