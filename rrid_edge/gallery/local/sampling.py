"""A sample of the rows of a gallery in a folder. It reads the few fields that it needs, and checks no checksum."""

from __future__ import annotations

import sqlite3

from rrid_edge.gallery.local.schema import from_bytes
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.sampling import RowSample, SampledRow, sampled


def read_sample(connection: sqlite3.Connection, view: View, count: int) -> RowSample:
    """At most ``count`` rows of a view, by the hashes of their slots.

    Args:
        connection: in a transaction.
        view: the live rows.
        count: most rows.
    """
    slots = sampled(view.slots, count)
    marks = ", ".join("?" * len(slots))
    query = f"SELECT slot, person, label, path FROM row WHERE slot IN ({marks})"  # noqa: S608 - question marks
    found = {slot: SampledRow.of(*map(_text, texts)) for slot, *texts in connection.execute(query, slots.tolist())}
    return RowSample(tuple(found.get(slot, SampledRow()) for slot in slots.tolist()), view.vectors.take(slots))


def _text(stored: object) -> str | None:
    """A text of the catalogue, or None where damage made another type of it."""
    return from_bytes(stored) if isinstance(stored, bytes) else None
