"""Numbers of the service for Prometheus."""

from __future__ import annotations


class Metrics:
    """Counts and times. Its methods may be called from any thread."""

    def batch(self, fingerprint: str, images: int, seconds: float) -> None:
        """Count one call of an engine."""

    def search(self, gallery: str, mode: str) -> None:
        """Count one search by how the gallery was searched."""
