"""Events for pages that follow the service."""

from __future__ import annotations

from collections.abc import Mapping


class EventLog:
    """The latest events. Its methods may be called from any thread."""

    def publish(self, kind: str, gallery: str, data: Mapping[str, object]) -> None:
        """Record an event for everyone who follows.

        Args:
            kind: such as ``crop-added``.
            gallery: name of the gallery.
            data: its facts, which JSON can hold.
        """

    def close(self) -> None:
        """End all who follow; safe to call twice."""
