"""Numbers that are read from the service when somebody asks for the metrics: queues, engines, galleries, followers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rrid_edge import __version__
from rrid_edge.errors import RridEdgeError, printable

if TYPE_CHECKING:
    from rrid_edge.serve.galleries import ServedGallery
    from rrid_edge.serve.service import Service


class StateMetrics(Collector):
    """Reads a service. It asks each gallery for its rows, so it must not run on the event loop.

    A gallery that does not answer has no ``rows``, and ``rrid_edge_gallery_up`` is 0.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not ask the galleries."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment."""
        yield InfoMetricFamily("rrid_edge_build", "Version of the package.", {"version": __version__})
        yield from self._engines()
        yield from self._galleries()
        followers = self._service.events.followers
        yield GaugeMetricFamily("rrid_edge_event_followers", "Clients that follow events.", followers)

    def _engines(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "rrid_edge_queue_images", "Images decoded, waiting or computed.", labels=["fingerprint"]
        )
        limit = GaugeMetricFamily("rrid_edge_queue_limit_images", "Images that a queue takes.", labels=["fingerprint"])
        engines = InfoMetricFamily("rrid_edge_engine", "The open engines.")
        placed: Counter[str] = Counter()
        limits: Counter[str] = Counter()
        opened: dict[tuple[tuple[str, str], ...], None] = {}  # files of one name in two folders are one series
        for model, worker in self._service.workers.items():
            mark = worker.spec.fingerprint  # several files of one network have several workers
            placed[mark] += worker.placed
            limits[mark] += worker.queue
            if (engine := worker.engine) is not None:
                facts = {"model": printable(model.name), "fingerprint": mark, "runtime": engine.runtime}
                opened[
                    tuple({**facts, "arithmetic": engine.arithmetic, "max_batch": str(engine.max_batch)}.items())
                ] = None
        for told in opened:
            engines.add_metric([], dict(told))
        for mark, images in placed.items():
            queue.add_metric([mark], images)
            limit.add_metric([mark], limits[mark])
        yield from (queue, limit, engines)

    def _galleries(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily("rrid_edge_gallery_rows", "Crops of a gallery.", labels=["gallery"])
        alive = GaugeMetricFamily("rrid_edge_gallery_up", "Whether a gallery answers.", labels=["gallery"])
        facts = InfoMetricFamily("rrid_edge_gallery", "The galleries that are served.")
        for gallery in self._service.galleries.values():
            name = gallery.name
            count = _rows(gallery)
            alive.add_metric([name], count is not None)
            if count is not None:
                rows.add_metric([name], count)
            writable = "no" if gallery.read_only else "yes"
            facts.add_metric([], {"gallery": name, "fingerprint": gallery.spec.fingerprint, "writable": writable})
        yield from (rows, alive, facts)


def _rows(gallery: ServedGallery) -> int | None:
    try:
        return gallery.store.info().rows
    except RridEdgeError:
        return None
