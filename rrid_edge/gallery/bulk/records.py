"""The records of bulk embedding: settings, batches of crops, outcomes, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from rrid_edge.gallery.indexing.left_out import FileState
from rrid_edge.gallery.indexing.rows import DescribedRow

CROPS_PER_BATCH = 4096
"""Crops that one worker takes at a time; their descriptors are 63 MB at 3840 values."""
MOST_FAILURES = 1000
"""Failed crops that a report names; all of them go to the listener."""


@dataclass(frozen=True)
class BulkSettings:
    """How to embed very many crops.

    Attributes:
        source: name of the rows' source; None makes it from the input.
        pattern: how names are read; see :func:`rrid_edge.crops.naming.name_reader`. None means the pattern that the
            gallery remembers, or ``auto`` for a new one.
        batch: images per call of the engine; None measures the best number.
        decoding_workers: decoding threads per engine; None adds them while the engine waits.
    """

    source: str | None = None
    pattern: str | None = None
    batch: int | None = None
    decoding_workers: int | None = None


@dataclass(frozen=True)
class CropBatch:
    """Some crops of an input.

    Attributes:
        names: paths of the rows, each once.
        contents: bytes of the image files by name; None if the crops are files.
        states: size (bytes) and modification time (ns) of the files by name, where the listing told them.
        facts: by name, the fields of the row that the input tells, such as ``camera``.
        failed: crops without a usable name or content, with the reason.
    """

    names: Sequence[str]
    contents: Mapping[str, bytes] | None = None
    states: Mapping[str, FileState] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a batch of crops.

    Attributes:
        added: crops that were stored.
        changed: crops that were stored in place of other content.
        unchanged: crops that the gallery had.
        forgotten: crops that were left out because their content was forgotten.
        expired: crops that were left out because they are older than the gallery keeps.
        failed: crops that could not be read or stored, with the reason.
        rows: rows that the caller stores; empty where the worker did.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    forgotten: int = 0
    expired: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    rows: tuple[DescribedRow, ...] = field(default=(), repr=False)

    @property
    def done(self) -> int:
        """Number of crops of the batch."""
        counted = self.added + self.changed + self.unchanged + self.forgotten + self.expired
        return counted + len(self.failed) + len(self.rows)

    def __add__(self, other: Outcome) -> Outcome:
        """The outcome of both batches."""
        return Outcome(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True)
class BulkReport:
    """The result of one run.

    Attributes:
        rows: crops in the gallery afterwards.
        source: of the rows.
        added: crops that were stored.
        changed: crops that were stored in place of other content.
        unchanged: crops that the gallery had, also those that a killed worker of this run had stored.
        forgotten: crops that were left out because their content was forgotten.
        expired: crops that were left out because they are older than the gallery keeps.
        failures: number of crops that could not be read or stored.
        failed: the first :data:`MOST_FAILURES` of them, with the reason.
        engines: engines that computed; 0 if no cluster was used.
    """

    rows: int
    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    forgotten: int = 0
    expired: int = 0
    failures: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    engines: int = 0
