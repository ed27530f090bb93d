"""The gallery of a query: opened once. New and changed files of its folder are added; a query never removes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.closable import Closable
from rrid_edge.engines.base import Engine
from rrid_edge.errors import FolderUnavailableError, GalleryBusyError, OutputError
from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryInfo
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.comparison import compare
from rrid_edge.gallery.indexing.facts import FactReader, default_source, remembered_facts
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.opening import (
    Location,
    create_store,
    model_path,
    model_text,
    open_existing,
    open_store,
    remembered_model,
)
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from rrid_edge.gallery.indexing.sync import IndexReport

_QUERY = IndexControl(verify=False, remove=False, expire=False)


@dataclass(frozen=True)
class FolderState:
    """How a folder differs from its gallery.

    Attributes:
        outdated: number of new and changed files, which can be indexed.
        missing: number of crops whose file is not there.
        unexamined: number of crops whose file, or a folder of it, the system refused to examine.
        problem: why the folder could not be compared, or empty.
        outside: links that were not followed, because they lead out of the folder.
    """

    outdated: int = 0
    missing: int = 0
    unexamined: int = 0
    problem: str = ""
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexedGallery:
    """A gallery that is ready to be searched.

    Attributes:
        gallery: open for reading.
        info: its facts; ``pattern`` and ``time_from`` tell how its file names were read.
        source: of the folder's rows.
        report: of the indexing run; None if nothing was indexed.
        busy: another process writes the gallery, so it was not indexed and answers from committed rows.
        unwritable: why the gallery could not be written, so that it answers from committed rows; or empty.
        folder: how the folder differs from the rows that answer.
    """

    gallery: GalleryStore
    info: GalleryInfo
    source: str = LOCAL_SOURCE
    report: IndexReport | None = None
    busy: bool = False
    unwritable: str = ""
    folder: FolderState = FolderState()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know about the rows that answer: lines for stderr."""
        folder, rows = self.folder, f"searching the {self.info.rows} crops that are committed"
        lines = [f"{folder.problem}; {rows}"] if folder.problem else []
        if self.busy:
            lines.append(f"another process is writing the index: {rows}")
        if self.unwritable:
            lines.append(f"{self.unwritable}; {rows}")
        if folder.outdated:
            lines.append(f"{folder.outdated} new or changed files are not in the index yet")
        if folder.missing:
            lines.append(f"{folder.missing} crops of the index have no file in the folder now; they still answer")
        if folder.unexamined:
            lines.append(f"the files of {folder.unexamined} crops could not be examined; the crops still answer")
        return tuple(lines)


class QueriedGallery(Closable):
    """Opens a gallery for reading, and compares it with its folder, in a thread if asked to.

    A gallery on a server is not compared: each query would read all of its rows.

    Args:
        folder: of crops, or None: the gallery is asked as it is.
        location: of the gallery, which may not exist yet if there is a folder.
        source: of the folder's crops; None means :func:`rrid_edge.gallery.indexing.facts.default_source`.
        follow_links: read links to files outside the folder too.

    Attributes:
        model: the model file that the gallery was indexed with, or None. It may have been moved.
        info: the gallery's facts, or None if it does not exist yet.

    Raises:
        GalleryMissingError: there is no gallery, and no folder to index.
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
    """

    def __init__(
        self, folder: Path | None, location: Location, source: str | None = None, *, follow_links: bool = False
    ) -> None:
        self._folder, self._location, self._source = folder, location, source
        self._follow_links = follow_links
        self._gallery = open_existing(location) if folder is not None else open_store(location)
        self.info: GalleryInfo | None = None
        if self._gallery is not None:
            try:
                self.info = self._gallery.info()
            except BaseException:
                self.close()
                raise
        self.model = remembered_model(location) if self.info is None else model_path(location, self.info.model)
        self._state: Callable[[], FolderState] | None = None

    def compare_meanwhile(self) -> None:
        """Begin to compare a gallery in a folder with its crops, in a thread. Else :meth:`indexed` compares them.

        Call it before something long that leaves Python to others, such as loading a model.
        """
        self._state = self._state or self._compare()

    def indexed(
        self, model: Path, engine: Engine, settings: IndexSettings, progress: Progress = NO_PROGRESS
    ) -> IndexedGallery:
        """The gallery, after adding new and changed files of its folder. This object closes it.

        No row is removed. If the gallery cannot be written, it answers from committed rows.

        Args:
            model: the engine's model file, which the gallery remembers.
            engine: of the gallery's model.
            settings: how to index. An existing gallery keeps its pattern and its source of times.
            progress: receives the number of files to embed, and how many are done.

        Raises:
            FingerprintMismatchError: the gallery was indexed with another model.
            FolderUnavailableError: the folder is missing, and there is no gallery.
            OutputError: a new gallery cannot be written.
        """
        state = FolderState()
        if self._gallery is not None and self.info is not None:
            refuse_foreign(self._gallery.where, self._gallery.spec, engine.spec)
            self.compare_meanwhile()
            state = self._state() if self._state is not None else state
            if not state.outdated and self.info.model == model_text(self._location, model):
                return self._answer(self._gallery, self.info, state=state)
            settings = replace(settings, pattern=None, time_from=None)
            self._gallery.close()
        settings = replace(settings, source=settings.source or self._source, follow_links=self._follow_links)
        return self._written(model, engine, settings, progress, state)

    def _written(
        self, model: Path, engine: Engine, settings: IndexSettings, progress: Progress, state: FolderState
    ) -> IndexedGallery:
        """The gallery after an attempt to write it."""
        from rrid_edge.gallery.indexing.sync import index_folder  # most queries find nothing to index

        is_new = self.info is None
        try:
            with create_store(self._location, engine.spec) as writer:
                writer.remember({"model": model_text(self._location, model)})
                report = None
                if self._folder is not None and (is_new or state.outdated):
                    report = index_folder(self._folder, writer, engine, settings, progress=progress, control=_QUERY)
        except GalleryBusyError:
            return self._reopened(engine.spec, state=state, busy=bool(state.outdated) or is_new)
        except OutputError as error:
            if is_new:
                raise
            return self._reopened(engine.spec, state=state, unwritable=error.message if state.outdated else "")
        if report is not None:
            state = FolderState(report.waiting, report.missing, report.unexamined, outside=report.outside)
        return self._reopened(engine.spec, state=state, report=report)

    def _reopened(
        self,
        spec: ModelSpec,
        *,
        state: FolderState,
        report: IndexReport | None = None,
        busy: bool = False,
        unwritable: str = "",
    ) -> IndexedGallery:
        self._gallery = open_store(self._location, spec=spec)
        found = self._answer(self._gallery, self._gallery.info(), state=state)
        return replace(found, report=report, busy=busy, unwritable=unwritable)

    def _answer(self, gallery: GalleryStore, info: GalleryInfo, *, state: FolderState) -> IndexedGallery:
        return IndexedGallery(gallery, info, self._source_of(info), folder=state)

    def _source_of(self, info: GalleryInfo) -> str:
        return self._source or (LOCAL_SOURCE if self._folder is None else default_source(info, self._folder))

    def _compare(self) -> Callable[[], FolderState]:
        """A function that returns how the folder differs. A local gallery is compared in a thread."""
        gallery, info, folder = self._gallery, self.info, self._folder
        if gallery is None or info is None or folder is None or not isinstance(self._location, Path):
            return FolderState
        pool = ThreadPoolExecutor(1, thread_name_prefix="compare")
        comparison = pool.submit(folder_state, folder, gallery, self._source_of(info), follow_links=self._follow_links)
        pool.shutdown(wait=False)
        return comparison.result

    def close(self) -> None:
        """Close the gallery; safe to call twice."""
        if self._gallery is not None:
            self._gallery.close()


def folder_state(
    folder: Path, gallery: GalleryStore, source: str | None = None, *, follow_links: bool = False
) -> FolderState:
    """How the files of a folder differ from its gallery's rows. Checksums are not verified.

    Args:
        folder: of crops.
        gallery: open for reading.
        source: of the folder's rows; None means :func:`rrid_edge.gallery.indexing.facts.default_source`.
        follow_links: compare links to files outside the folder too.

    Raises:
        UsageError: ``folder`` is a file.
    """
    info = gallery.info()
    source = source or default_source(info, folder)
    reader = FactReader(folder, source, *remembered_facts(info, None, None))
    try:
        changes = compare(gallery, reader, verify=False, follow_links=follow_links)
    except FolderUnavailableError as error:
        return FolderState(missing=len(gallery.file_stats(source)), problem=error.message)
    counts = len(changes.outdated), len(changes.deleted), changes.unexamined
    return FolderState(*counts, outside=changes.outside)
