"""A gallery that queries are asked of: it is opened once, and indexed only where its folder has changed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.closable import Closable
from rrid_edge.engines.base import Engine
from rrid_edge.errors import GalleryBusyError
from rrid_edge.gallery.base import Gallery, GalleryInfo
from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings, index_folder, out_of_step
from rrid_edge.gallery.opening import Location, create_gallery, open_existing, open_gallery
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class InStep:
    """A gallery that may be searched.

    Attributes:
        gallery: open for reading.
        info: what it says of itself.
        report: what indexing did; None where nothing was indexed.
        busy: another process is writing the gallery, so it answers from what is committed.
    """

    gallery: Gallery
    info: GalleryInfo
    report: IndexReport | None = None
    busy: bool = False


class QueriedGallery(Closable):
    """Opens a gallery for reading, and compares it with its folder in a thread while its model is opened.

    A gallery on a server is not compared: that would read all of its rows for every query.

    Args:
        folder: of crops.
        location: of the gallery; there may be none yet.

    Attributes:
        model: the model file that the gallery was indexed with, where there is a gallery and it remembers.

    Raises:
        GalleryError: damaged, or its server does not answer.
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
        self._differs = _compare(folder, location, self._gallery)

    def in_step(self, model: Path, engine: Engine, settings: IndexSettings, progress: Progress = NO_PROGRESS) -> InStep:
        """The gallery, indexed where there is none or its folder has changed. It is closed with this object.

        Args:
            model: file of the engine's model; the gallery remembers it where it is indexed.
            engine: of the gallery's model.
            settings: how to index.
            progress: told how many files are embedded.

        Raises:
            FingerprintMismatchError: the gallery belongs to another model.
            FolderUnavailableError: the folder is empty, and its gallery is not.
        """
        if self._gallery is not None and self._info is not None:
            refuse_foreign(self._gallery.where, self._gallery.spec, engine.spec)
            if not self._differs():
                return InStep(self._gallery, self._info)
            self._gallery.close()
        try:
            writer = create_gallery(self._location, engine.spec)
        except GalleryBusyError:
            return self._reopened(engine.spec, None, busy=True)
        with writer:
            report = index_folder(self._folder, writer, engine, settings, progress=progress)
            writer.set_model(model.resolve())
        return self._reopened(engine.spec, report, busy=False)

    def _reopened(self, spec: ModelSpec, report: IndexReport | None, *, busy: bool) -> InStep:
        self._gallery = open_gallery(self._location, spec=spec)
        return InStep(self._gallery, self._gallery.info(), report, busy)

    def close(self) -> None:
        """Close the gallery; safe to call twice."""
        if self._gallery is not None:
            self._gallery.close()


def _compare(folder: Path, location: Location, gallery: Gallery | None) -> Callable[[], bool]:
    """Whether the gallery must be indexed; a local one is compared in a thread, which the answer waits for."""
    if gallery is None or not isinstance(location, Path):
        missing = gallery is None
        return lambda: missing
    pool = ThreadPoolExecutor(1, thread_name_prefix="compare")
    answer = pool.submit(out_of_step, folder, gallery)
    pool.shutdown(wait=False)
    return answer.result
