"""Numbers of the service for Prometheus. Each service has a registry of its own, so one process can hold several."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """Counts and times. Its methods may be called from any thread.

    No label holds what a client chose freely, so the number of series is bounded.

    Attributes:
        registry: of ``prometheus_client``.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        own = self.registry
        self._requests = Counter("rrid_edge_requests", "Requests answered.", ["method", "route", "code"], registry=own)
        self._latency = Histogram(
            "rrid_edge_request_seconds",
            "Time from the first byte of a request to the last of its answer; without event streams.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self._running = Gauge("rrid_edge_requests_running", "Requests that are being answered.", registry=own)
        self._refused = Counter("rrid_edge_uploads_refused", "Uploads refused, by reason.", ["reason"], registry=own)
        self._searches = Counter(
            "rrid_edge_searches", "Searches, by the way the gallery was searched.", ["gallery", "mode"], registry=own
        )
        self._audit = Counter(
            "rrid_edge_audit_failures", "Audit lines that could not be written.", ["command"], registry=own
        )
        self._of_engines()

    def _of_engines(self) -> None:
        own, model = self.registry, ["fingerprint"]
        self._images = Counter("rrid_edge_images_embedded", "Images that engines computed.", model, registry=own)
        self._engine = Counter("rrid_edge_engine_seconds", "Time that engines computed.", model, registry=own)
        self._batch = Histogram(
            "rrid_edge_engine_batch_images", "Images per call of an engine.", model, buckets=_IMAGES, registry=own
        )
        self._wait = Histogram(
            "rrid_edge_queue_wait_seconds",
            "Time that images waited for an engine.",
            model,
            buckets=_SECONDS,
            registry=own,
        )

    def begin(self) -> None:
        """Count a request that begins."""
        self._running.inc()

    def request(self, method: str, route: str, code: int, seconds: float | None) -> None:
        """Count a request that ended, after :meth:`begin`.

        Args:
            method: of HTTP; an unknown one is counted as ``other``.
            route: template of the route, such as ``/api/v1/crops/{id}``; never the path that was asked.
            code: status of the answer; 499 if the client went away before it.
            seconds: time until the last byte; None for streams that end when the client wants.
        """
        self._running.dec()
        self._requests.labels(method if method in _METHODS else "other", route, str(code)).inc()
        if seconds is not None:
            self._latency.labels(route).observe(seconds)

    def batch(self, fingerprint: str, images: int, seconds: float) -> None:
        """Count one call of an engine."""
        self._images.labels(fingerprint).inc(images)
        self._engine.labels(fingerprint).inc(seconds)
        self._batch.labels(fingerprint).observe(images)

    def waited(self, fingerprint: str, seconds: float) -> None:
        """Count the time that the images of one request waited for an engine."""
        self._wait.labels(fingerprint).observe(seconds)

    def search(self, gallery: str, mode: str) -> None:
        """Count one search by how the gallery was searched."""
        self._searches.labels(gallery, mode).inc()

    def upload_refused(self, reason: str) -> None:
        """Count an upload that was refused; ``reason`` is one of a few words, such as ``too-large``."""
        self._refused.labels(reason).inc()

    def audit_failed(self, command: str) -> None:
        """Count an audit line that could not be written."""
        self._audit.labels(command).inc()

    def collect_from(self, collector: Collector) -> None:
        """Take further numbers from ``collector`` whenever the metrics are read."""
        self.registry.register(collector)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their media type, in the form that ``accept`` (a header) asks for: text, or OpenMetrics."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type
