"""Copying a gallery from one store to another, bit for bit and without embedding again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import (
    FingerprintMismatchError,
    GalleryChangedError,
    GalleryError,
    UsageError,
    item_at_work,
    printable,
)
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore, Moment
from rrid_edge.progress import NO_PROGRESS, Progress, step
from rrid_edge.stopping import kept_if_stopped

BATCH_ROWS = 512
"""Rows per write."""
_FILE_FIELDS = [field.name for field in fields(NewRow) if field.name != "thumbnail"]
_File = tuple[str, str]
"""Source and path of a row."""
_Content = tuple[NewRow, str]
"""Facts and digest of the vector of a row without a file."""


@dataclass(frozen=True)
class CopyReport:
    """The result of one copy.

    Attributes:
        rows: crops that both galleries hold now.
        copied: crops written.
        present: crops that the destination already held with the same facts and values.
        damaged: names of crops that were not copied, because their vector is damaged in the source.
        forgotten: crops that were not copied, because the destination has forgotten their content.
    """

    rows: int
    copied: int
    present: int
    damaged: tuple[str, ...] = ()
    forgotten: int = 0


def copy_gallery(
    source: GalleryStore,
    destination: GalleryStore,
    *,
    model: str = "",
    sources: Mapping[str, str] | None = None,
    progress: Progress = NO_PROGRESS,
) -> CopyReport:
    """Copy all rows of one moment, with their thumbnails. Rows get ids of the destination.

    Rows that the destination already holds stay, so an interrupted copy can be repeated. A row without a file is the
    same row if its facts and its vector are equal. The destination takes over pattern, source of times, retention and
    the files that could not be decoded. What the source has forgotten is not carried over, because that would copy the
    key that hides it; what the destination has forgotten stays out.

    At the end every vector of the destination is checked against the checksum that was computed before it was sent.

    Args:
        source: open for reading.
        destination: open for writing, of the same model.
        model: the model file that the destination records; empty leaves its own.
        sources: new names of the sources of rows with a file, see
            :func:`~rrid_edge.gallery.indexing.copied_sources.sources_in_copy`. None renames none.
        progress: receives the number of crops, and how many are done.

    Raises:
        FingerprintMismatchError: the galleries have different models.
        UsageError: the destination stores values in fewer bits.
        GalleryError: the destination holds other crops, or not all that were written.
    """
    _refuse_unfit(source, destination)
    names = sources or {}
    with kept_if_stopped(lambda: f"the destination holds {destination.info().rows:,} crops now"):
        copy = _copied(source, destination, names, progress)
        _copy_facts(source, destination, model, names)
        destination.finish()
        _check_copy(destination, copy.copied + copy.present + copy.stale)
    return CopyReport(
        copy.copied + copy.present, copy.copied, copy.present, tuple(sorted(copy.damaged)), copy.forgotten
    )


def _copied(source: GalleryStore, destination: GalleryStore, names: Mapping[str, str], progress: Progress) -> _Copy:
    """Copy the rows of one moment."""
    with source.moment() as moment:
        rows = moment.rows()
        copy = _Copy(source, moment, destination, names)
        copy.read_destination({_file(copy.facts(row)) for row in rows if row.path is not None})
        progress.start(len(rows))
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            with item_at_work(f"{batch[0].name} and the {len(batch) - 1} crops after it"):
                copy.batch(batch)
            progress.advance(len(batch))
    copy.refuse_extra()
    return copy


def _refuse_unfit(source: GalleryStore, destination: GalleryStore) -> None:
    source_info, destination_info = source.info(), destination.info()
    if source_info.spec.fingerprint != destination_info.spec.fingerprint:
        raise FingerprintMismatchError(
            f"the destination belongs to another model (fingerprint {destination_info.spec.fingerprint[:12]}) than the "
            f"source ({source_info.spec.fingerprint[:12]}): their descriptors cannot be compared; name another "
            "destination"
        )
    if source_info.dtype == "float32" and destination_info.dtype == "float16":
        raise UsageError(
            "the source holds float32 values, the destination float16: copying would round them; name a new destination"
        )


def _copy_facts(source: GalleryStore, destination: GalleryStore, model: str, names: Mapping[str, str]) -> None:
    info = source.info()
    retention = "" if info.retention_s is None else str(info.retention_s)
    facts = {"pattern": info.pattern, "time_from": info.time_from, "retention_s": retention}
    destination.remember(facts | ({"model": model} if model else {}))
    for name in source.sources():
        destination.set_unreadable(names.get(name, name), source.unreadable(name))


class _Copy:
    """One copy in progress.

    Attributes:
        copied: crops written.
        present: crops that the destination already held.
        stale: crops of the destination that it keeps, because their vector is damaged in the source.
        damaged: names of crops whose vector is damaged in the source.
        forgotten: crops whose content the destination has forgotten.
    """

    def __init__(
        self, source: GalleryStore, moment: Moment, destination: GalleryStore, names: Mapping[str, str]
    ) -> None:
        self._source, self._moment, self._destination, self._names = source, moment, destination, names
        self.copied = self.present = self.stale = self.forgotten = 0
        self.damaged: list[str] = []
        self._files: dict[_File, GalleryRow] = {}
        self._contents: Counter[_Content] = Counter()
        self._broken: set[int] = set()

    def facts(self, row: GalleryRow) -> NewRow:
        """The facts of a row of the source, as the destination is to hold them."""
        facts = _facts(row)
        return facts if row.path is None else replace(facts, source=self._names.get(row.source, row.source))

    def read_destination(self, source_files: set[_File]) -> None:
        """Read the rows of the destination.

        Raises:
            GalleryError: it holds files that the source does not have.
        """
        rows = self._destination.rows()
        self._broken = {row.id for row in self._destination.verify().damaged}
        self._files = {_file(row): row for row in rows if row.path is not None}
        extra = sorted(path for source, path in self._files.keys() - source_files)
        if extra:
            raise _other_crops(len(extra), printable(extra[0]))
        without_file = [row for row in rows if row.path is None and row.id not in self._broken]
        for start in range(0, len(without_file), BATCH_ROWS):
            part = without_file[start : start + BATCH_ROWS]
            self._contents.update(map(_content, part, self._destination.vectors(part)))

    def batch(self, batch: Sequence[GalleryRow]) -> None:
        """Write the crops that the destination does not hold with the same facts and values."""
        rows, vectors = self._intact(batch)
        kept_out = self._destination.kept_out({row.sha256 for row in rows if row.sha256})
        same = self._same_files(rows, vectors)
        missing = []
        for index, row in enumerate(rows):
            if row.sha256 in kept_out:
                self.forgotten += 1
            elif index in same or (row.path is None and self._take(_content(row, vectors[index]))):
                self.present += 1
            else:
                missing.append(index)
        if missing:
            thumbnails = self._source.thumbnails([rows[index].id for index in missing])
            new = [replace(self.facts(rows[index]), thumbnail=thumbnails.get(rows[index].id)) for index in missing]
            self._destination.add(new, vectors[missing])
            self.copied += len(missing)

    def _intact(self, batch: Sequence[GalleryRow]) -> tuple[list[GalleryRow], NDArray[np.float32]]:
        """The rows whose vectors are intact, with their vectors. Rows that were forgotten meanwhile are left out."""
        try:
            return list(batch), self._moment.vectors(batch)
        except GalleryError:
            pass
        rows, vectors = [], [np.empty((0, self._source.spec.dimension), np.float32)]
        for row in batch:
            try:
                vectors.append(self._moment.vectors([row]))
            except GalleryChangedError:
                continue
            except GalleryError:
                self.damaged.append(row.name)
                self.stale += row.path is not None and _file(self.facts(row)) in self._files
                continue
            rows.append(row)
        return rows, np.concatenate(vectors)

    def _same_files(self, rows: Sequence[GalleryRow], vectors: NDArray[np.float32]) -> set[int]:
        """Positions of the rows with a file that the destination holds with the same facts and values."""
        facts = {index: self.facts(row) for index, row in enumerate(rows) if row.path is not None}
        stored = {index: self._files.get(_file(new)) for index, new in facts.items()}
        alike = {
            index: row
            for index, row in stored.items()
            if row is not None and row.id not in self._broken and _facts(row) == facts[index]
        }
        if not alike:
            return set()
        values = self._destination.vectors(list(alike.values()))
        return {index for index, value in zip(alike, values, strict=True) if np.array_equal(value, vectors[index])}

    def _take(self, content: _Content) -> bool:
        """Whether the destination holds one more row of this content."""
        if not self._contents[content]:
            return False
        self._contents[content] -= 1
        return True

    def refuse_extra(self) -> None:
        """Refuse a destination with rows without a file that the source does not have.

        Raises:
            GalleryError: there are some.
        """
        extra = sum(self._contents.values())
        if extra:
            raise _other_crops(extra, "one without a file")


def _other_crops(count: int, example: str) -> GalleryError:
    return GalleryError(
        f"the destination holds {count} crops that the source does not have, for example {example}: copy into an empty "
        "gallery, or forget these crops first"
    )


@step("checking the copy")
def _check_copy(destination: GalleryStore, expected: int) -> None:
    result = destination.verify()
    if result.rows != expected or result.damaged:
        raise GalleryError(
            f"the destination holds {result.rows} crops, {len(result.damaged)} of them damaged, instead of {expected}: "
            "another process writes it; copy again"
        )


def _file(row: NewRow) -> _File:
    assert row.path is not None
    return row.source, row.path


def _facts(row: NewRow) -> NewRow:
    """A row without the fields that its store adds, and without its thumbnail."""
    return NewRow(**{name: getattr(row, name) for name in _FILE_FIELDS})


def _content(row: NewRow, vector: NDArray[np.float32]) -> _Content:
    return _facts(row), hashlib.sha256(np.ascontiguousarray(vector, np.float32).tobytes()).hexdigest()
