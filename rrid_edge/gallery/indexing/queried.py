"""The gallery of a query: opened once, and indexed only if its folder has changed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.closable import Closable
from rrid_edge.engines.base import Engine
from rrid_edge.errors import GalleryBusyError
from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings, index_folder, needs_indexing
from rrid_edge.gallery.opening import Location, create_store, open_existing, open_store
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class IndexedGallery:
    """A gallery that holds the crops of its folder.

    Attributes:
        gallery: open for reading.
        info: its facts.
        report: of the indexing run; None if nothing was indexed.
        busy: another process writes the gallery, so it was not indexed and answers from committed rows.
    """

    gallery: GalleryStore
    info: GalleryInfo
    report: IndexReport | None = None
    busy: bool = False


class QueriedGallery(Closable):
    """Opens a gallery for reading, and compares it with its folder in a thread while the caller opens the model.

    A gallery on a server is not compared: each query would read all of its rows.

    Args:
        folder: of crops.
        location: of the gallery, which may not exist yet.

    Attributes:
        model: the model file that the gallery was indexed with, or None.

    Raises:
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
    """

    def __init__(self, folder: Path, location: Location) -> None:
        self._folder, self._location = folder, location
        self._gallery = open_existing(location)
        self._info: GalleryInfo | None = None
        if self._gallery is not None:
            try:
                self._info = self._gallery.info()
            except BaseException:
                self.close()
                raise
        self.model = Path(self._info.model) if self._info is not None and self._info.model else None
        self._needs_indexing = _compare(folder, location, self._gallery)

    def indexed(
        self, model: Path, engine: Engine, settings: IndexSettings, progress: Progress = NO_PROGRESS
    ) -> IndexedGallery:
        """The gallery, after indexing it if it does not exist or its folder has changed. This object closes it.

        Args:
            model: the engine's model file; the gallery records it when it is indexed.
            engine: of the gallery's model.
            settings: how to index.
            progress: receives the number of files to embed, and how many are done.

        Raises:
            FingerprintMismatchError: the gallery was indexed with another model.
            FolderUnavailableError: the folder is missing, or empty although the gallery is not.
            OutputError: the disk refused a write; committed rows are kept.
        """
        if self._gallery is not None and self._info is not None:
            refuse_foreign(self._gallery.where, self._gallery.spec, engine.spec)
            if not self._needs_indexing():
                return IndexedGallery(self._gallery, self._info)
            self._gallery.close()
        try:
            writer = create_store(self._location, engine.spec)
        except GalleryBusyError:
            return self._reopened(engine.spec, None, busy=True)
        with writer:
            report = index_folder(self._folder, writer, engine, settings, progress=progress)
            writer.set_model(model.resolve())
        return self._reopened(engine.spec, report, busy=False)

    def _reopened(self, spec: ModelSpec, report: IndexReport | None, *, busy: bool) -> IndexedGallery:
        self._gallery = open_store(self._location, spec=spec)
        return IndexedGallery(self._gallery, self._gallery.info(), report, busy)

    def close(self) -> None:
        """Close the gallery; safe to call twice."""
        if self._gallery is not None:
            self._gallery.close()


def _compare(folder: Path, location: Location, gallery: GalleryStore | None) -> Callable[[], bool]:
    """A function that returns whether the gallery must be indexed. A local gallery is compared in a thread."""
    if gallery is None or not isinstance(location, Path):
        is_missing = gallery is None
        return lambda: is_missing
    pool = ThreadPoolExecutor(1, thread_name_prefix="compare")
    comparison = pool.submit(needs_indexing, folder, gallery)
    pool.shutdown(wait=False)
    return comparison.result
