"""Audit lines of the service: who searched, looked, labelled, exported and forgot what, and when.

They go to the audit log of the gallery, which the command line writes too (:mod:`rrid_edge.gallery.indexing.audit`).
They hold ids and counts, and neither pictures nor names of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rrid_edge.errors import OutputError, printable
from rrid_edge.gallery.indexing.audit import audit
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor
from rrid_edge.serve.logs import LOGGER
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.traces import current_request

if TYPE_CHECKING:
    from rrid_edge.gallery.opening import Location

NEEDED: Final = frozenset({"label", "feedback", "export", "forget"})
"""Actions that are refused if their line cannot be written. Of the others the log and the metrics say so."""
_RETRY_S: Final = 10


class AuditLines:
    """Writes audit lines. Its methods may be called from any thread but that of the event loop: they wait for the disk.

    Args:
        metrics: counts the lines that could not be written.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._locations: dict[str, Location] = {}

    def place(self, gallery: str, location: Location) -> None:
        """Say where the lines of a gallery go."""
        self._locations[gallery] = location.resolve() if isinstance(location, Path) else location

    def line(
        self,
        action: str,
        actor: Actor,
        gallery: str | None,
        ids: Sequence[int] = (),
        **facts: str | float | bool | None,
    ) -> None:
        """Write one line. Actions of :data:`NEEDED` write it before they act, so that none is without one.

        Args:
            action: such as ``search``.
            actor: who asked.
            gallery: name of the gallery; None for what concerns none, such as a login.
            ids: of the crops.
            facts: further facts; neither names of people nor texts that a client chose.

        Raises:
            RequestError: 503, an action of :data:`NEEDED` whose line cannot be written.
        """
        location = None if gallery is None else self._locations.get(gallery)
        request = current_request()
        who = {"actor": printable(actor.name), "role": actor.role}
        where = {} if request is None else {"client": request.client, "request": request.id}
        try:
            audit(location, action, ids=ids, durable=action in NEEDED, **who, **where, **facts)
        except OutputError as error:
            self._failed(action, error)

    def close(self) -> None:
        """Nothing waits; safe to call twice."""

    def _failed(self, action: str, error: OutputError) -> None:
        self._metrics.audit_failed(action)
        LOGGER.error("no audit line for %s: %s", action, error.message)
        if action in NEEDED:
            raise RequestError(
                f"nothing was done, because the audit log cannot be written: {error.message}",
                status=503,
                retry_after_s=_RETRY_S,
            ) from error
