"""The service: everything that its routes need, made once and closed once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrid_edge.closable import Closable
from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.opening import Location, location_of, open_store
from rrid_edge.people.book import PeopleBook
from rrid_edge.serve.addresses import Addresses
from rrid_edge.serve.audit_lines import AuditLines
from rrid_edge.serve.events import EventLog
from rrid_edge.serve.following import GalleryFollower
from rrid_edge.serve.galleries import GalleryPlace, ServedGallery, crops_folder, unique_names
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import given
from rrid_edge.serve.gate.sessions import SessionBook
from rrid_edge.serve.gate.tokens import TokenBook
from rrid_edge.serve.listing import Listing
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.models import ModelFiles, Models
from rrid_edge.serve.pictures import PictureCache
from rrid_edge.serve.settings import ServeSettings
from rrid_edge.serve.state_metrics import StateMetrics
from rrid_edge.serve.threads import WorkThreads
from rrid_edge.serve.watching import GalleryWatcher, refuse_unwatchable
from rrid_edge.serve.worker import EngineWorker


class Service(Closable):
    """What the service holds. Galleries are open at once; engines open in their own threads.

    Args:
        settings: how the service runs.
        models: chooses and opens models; None takes files.

    Attributes:
        settings: as given.
        galleries: by name, in the order given.
        workers: by model file.
        addresses: as answers name them.
        threads: for blocking work.
        events: the latest events.
        followers: notice the commits of each gallery, by its name.
        pictures: thumbnails that were made from files.
        listing: pages of crops.
        metrics: numbers of the service.
        audit: writes audit lines.
        tokens: of the token file, or None.
        sessions: of browsers.
        started: when the service was made, in seconds since 1970.

    Raises:
        GalleryMissingError: a location holds no gallery.
        GalleryError: a gallery is damaged, has a newer format, or its server does not answer.
        FingerprintMismatchError: a gallery was indexed with another model than the one given.
        UsageError: a location, the model or the token file cannot be used, or a gallery cannot be followed.
        MissingDependencyError: folders are to be followed, and watchfiles is not installed.
    """

    def __init__(self, settings: ServeSettings, models: Models | None = None) -> None:
        self.settings = settings
        self.started = time.time()
        self.addresses = Addresses(settings.root_path)
        self.metrics = Metrics()
        self.events = EventLog()
        self.pictures, self.listing = PictureCache(), Listing()
        self.audit = AuditLines(self.metrics)
        self.tokens = TokenBook.read(settings.token_file) if settings.token_file is not None else None
        self.sessions = SessionBook()
        self.workers: dict[Path, EngineWorker] = {}
        with contextlib.ExitStack() as stack:
            self.threads = stack.enter_context(WorkThreads())
            self.galleries: Mapping[str, ServedGallery] = self._opened(stack, models or ModelFiles(settings))
            self.metrics.collect_from(StateMetrics(self))
            self.followers = {
                name: stack.enter_context(GalleryFollower(gallery, self.events, self.drop_caches))
                for name, gallery in self.galleries.items()
            }
            self._watch(stack)
            self._stack = stack.pop_all()

    def gallery(self, name: str | None) -> ServedGallery:
        """A gallery by its name; None means the only one.

        Raises:
            RequestError: 404 if there is none of this name, 422 if none is named and several are served.
        """
        known = ", ".join(map(printable, self.galleries))
        if name is None:
            if len(self.galleries) > 1:
                raise RequestError(f"no gallery is named, and several are served: name one of {known}", status=422)
            return next(iter(self.galleries.values()))
        found = self.galleries.get(name)
        if found is None:
            raise RequestError(f"gallery {given(name)} is not served: expected one of {known}", status=404)
        return found

    @property
    def is_ready(self) -> bool:
        """Whether all engines are open."""
        return all(worker.is_ready for worker in self.workers.values())

    def _watch(self, stack: contextlib.ExitStack) -> None:
        if self.settings.watch:
            refuse_unwatchable(list(self.galleries.values()))
            for gallery in self.galleries.values():
                stack.enter_context(GalleryWatcher(gallery, self.events))

    def drop_caches(self) -> None:
        """Keep nothing of crops in memory: some were forgotten."""
        self.pictures.clear()
        self.listing.clear()
        for gallery in self.galleries.values():
            gallery.people.clear()
            gallery.sample.clear()

    def close(self) -> None:
        """Finish what runs, then close galleries and engines; safe to call twice."""
        self.events.close()
        self._stack.close()

    def _opened(self, stack: contextlib.ExitStack, models: Models) -> dict[str, ServedGallery]:
        locations = [location_of(text) for text in self.settings.galleries]
        _refuse_twice(locations)
        stores = [stack.enter_context(open_store(location)) for location in locations]
        files = [models.choose(location, store) for location, store in zip(locations, stores, strict=True)]
        served: dict[str, ServedGallery] = {}
        for name, location, store, model in zip(unique_names(locations), locations, stores, files, strict=True):
            place = GalleryPlace(name, location, crops_folder(location), model, self.settings.read_only)
            worker = self._worker(stack, models, model, store)
            self.audit.place(name, location)
            book = PeopleBook.at(location)
            served[name] = stack.enter_context(ServedGallery(place, store, worker, book))
        return served

    def _worker(self, stack: contextlib.ExitStack, models: Models, model: Path, store: GalleryStore) -> EngineWorker:
        key = model.resolve()
        if key not in self.workers:
            worker = EngineWorker(lambda: models.open(model), store.spec, self.settings.queue, self.metrics)
            self.workers[key] = stack.enter_context(worker)
        return self.workers[key]


def _refuse_twice(locations: Sequence[Location]) -> None:
    """Refuse a gallery that is given twice.

    Raises:
        UsageError: names it.
    """
    seen: set[str] = set()
    for location in locations:
        text = str(location.resolve() if isinstance(location, Path) else location)
        if text in seen:
            problem = f"{printable(str(location))}: this gallery is given twice; give it once"
            raise UsageError(problem, parameter="galleries")
        seen.add(text)
