"""A gallery that is served: its store, its model's worker, and the book of its people."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rrid_edge.closable import Closable
from rrid_edge.errors import GalleryBusyError, GalleryError
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.labelled import labels_of
from rrid_edge.gallery.opening import INDEX_FOLDER, Location, open_store
from rrid_edge.json_text import text_of_name
from rrid_edge.matching.sampling import GallerySample
from rrid_edge.model.spec import ModelSpec
from rrid_edge.people.book import PeopleBook
from rrid_edge.serve.gallery_facts import KeptFacts
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.marks import ModelMarks
from rrid_edge.serve.people_state import PeopleState
from rrid_edge.serve.worker import EngineWorker

WAIT_FOR_WRITER_S: Final = 5.0
"""Seconds that a request waits for another process that writes the gallery."""
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class GalleryPlace:
    """Where a gallery lies.

    Attributes:
        name: unique among the galleries of the service.
        location: of the gallery.
        folder: of its crops; None if only the index is known.
        model: its model file.
        read_only: every request that changes the gallery is refused.
    """

    name: str
    location: Location
    folder: Path | None
    model: Path
    read_only: bool = False


class ServedGallery(Closable):
    """A gallery that is served. Its methods may be called from any thread.

    Args:
        place: where it lies.
        store: open for reading.
        worker: of its model; others may share it, and the service closes it.
        book: of its people.

    Attributes:
        name: unique among the galleries of the service.
        location: of the gallery.
        folder: of its crops; None if only the index is known.
        spec: of the model that made the descriptors.
        model: the model file.
        worker: as given.
        store: as given; open for reading as long as the service runs. It follows an index that is rebuilt.
        book: as given.
        read_only: every request that changes the gallery is refused.
        sample: of its crops, against which the parts of a match are measured.
        marks: measured thresholds of its model.
        facts: what it holds.
        people: who is confirmed and suggested in it.
    """

    def __init__(self, place: GalleryPlace, store: GalleryStore, worker: EngineWorker, book: PeopleBook) -> None:
        self.name, self.location, self.folder = place.name, place.location, place.folder
        self.model, self.read_only = place.model, place.read_only
        self.store, self.worker, self.book = store, worker, book
        self.spec: ModelSpec = store.spec
        self.sample = GallerySample()
        self.facts = KeptFacts()
        self.marks = ModelMarks(place.model, store.spec)
        book.labels_now = self._labels_now
        self.people = PeopleState(lambda: self.store, book, place.model)
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self._wanting = 0
        self._is_checked = False

    @property
    def is_wanted(self) -> bool:
        """Whether a thread waits to write it. Long work then ends its turn early, and goes on later."""
        return self._wanting > 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[GalleryStore]:
        """The store, open for writing. One thread at a time is in here.

        Raises:
            RequestError: 403 if the gallery is served for reading only.
            GalleryBusyError: another thread or process has written it for :data:`WAIT_FOR_WRITER_S` seconds.
        """
        self.refuse_reading()
        until = time.monotonic() + WAIT_FOR_WRITER_S
        if not self._takes_turn():
            raise GalleryBusyError(f"{self.store.where}: other requests write this gallery; try again later")
        try:
            if not isinstance(self.location, Path):  # a server needs no second connection
                yield self.store
                return
            with self._opened_for_writing(until) as store:
                try:
                    yield store
                except GalleryError:  # the next opening looks for damage
                    self._is_checked = False
                    raise
        finally:
            self._turn.release()

    def refuse_reading(self) -> None:
        """Refuse to change the gallery if it is served for reading only.

        Raises:
            RequestError: 403.
        """
        if self.read_only:
            raise RequestError(f"the gallery {self.name} is served for reading only", status=403)

    def _takes_turn(self) -> bool:
        with self._counting:
            self._wanting += 1
        try:
            return self._turn.acquire(timeout=WAIT_FOR_WRITER_S)
        finally:
            with self._counting:
                self._wanting -= 1

    def _opened_for_writing(self, until: float) -> GalleryStore:
        while True:
            try:
                # Looking for damage reads the whole catalogue. Once per service is enough, and a push should not wait.
                store = open_store(self.location, write=True, spec=self.spec, check=not self._is_checked)
                self._is_checked = True
                return store
            except GalleryBusyError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLL_S)

    def _labels_now(self) -> set[str]:
        with self.store.moment() as moment:
            return labels_of(moment)

    def close(self) -> None:
        """Close the store and the book; safe to call twice."""
        self.people.close()
        self.store.close()
        self.book.close()


def crops_folder(location: Location) -> Path | None:
    """The folder of a gallery's crops; None if only the index is known, or a server holds the gallery."""
    if not isinstance(location, Path):
        return None
    return location.resolve().parent if location.resolve().name == INDEX_FOLDER else None


def unique_names(locations: list[Location]) -> list[str]:
    """A name for each location: that of its folder or collection, with a number where two are alike."""
    names: list[str] = []
    for location in locations:
        folder = crops_folder(location)
        plain = (folder or location.resolve()).name if isinstance(location, Path) else location.collection
        plain = text_of_name(plain) or "gallery"
        count = 1
        name = plain
        while name in names:
            count += 1
            name = f"{plain} ({count})"
        names.append(name)
    return names
