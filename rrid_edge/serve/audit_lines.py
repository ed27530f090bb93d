"""Audit lines: who did what, when, with which crops. They hold no pictures."""

from __future__ import annotations

from collections.abc import Sequence

from rrid_edge.serve.gate.roles import Actor


class AuditLines:
    """Writes audit lines. Its methods may be called from any thread."""

    def line(
        self, action: str, actor: Actor, gallery: str, ids: Sequence[int] = (), **facts: str | float | bool | None
    ) -> None:
        """Write one line.

        Args:
            action: such as ``search``.
            actor: who asked.
            gallery: name of the gallery.
            ids: of the crops.
            facts: further facts.
        """

    def close(self) -> None:
        """Write what waits; safe to call twice."""
