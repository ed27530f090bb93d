"""A sample of each gallery, against which the parts of a match are measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore, Moment, read_in_one_moment
from rrid_edge.gallery.paging import ListedMoment
from rrid_edge.matching.contrast import SAMPLE_ROWS, ContrastSample, sampled

_ATTEMPTS: Final = 3
_KEPT_S: Final = 60.0
"""Seconds that the sample of a gallery on a server is kept."""
_DIRECTIONS: Final = 16


class GallerySample:
    """The sample of one gallery. It follows the gallery. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._mark: object = None
        self._sample: ContrastSample | None = None
        self._vectors: dict[tuple[int, int], NDArray[np.float32]] = {}

    def of(self, store: GalleryStore) -> ContrastSample:
        """The sample of the gallery's state.

        Args:
            store: of the gallery.

        Raises:
            GalleryChangedError: others changed the sampled rows of every attempt.
        """
        with self._turn:
            return read_in_one_moment(store, lambda moment: self._current(store, moment), _ATTEMPTS)

    def clear(self) -> None:
        """Keep nothing of crops in memory: some were forgotten."""
        with self._turn:
            self._sample, self._mark, self._vectors = None, None, {}

    def _current(self, store: GalleryStore, moment: Moment) -> ContrastSample:
        listed = isinstance(moment, ListedMoment)
        mark: object = moment.mark() if isinstance(moment, ListedMoment) else int(time.monotonic() / _KEPT_S)
        if self._sample is None or mark != self._mark:
            rows = _listed_rows(moment) if listed else _found_rows(moment, store.spec.dimension)
            self._sample = ContrastSample(store.spec, self._read(moment, rows, store.spec.dimension))
            self._mark = mark
        return self._sample

    def _read(self, moment: Moment, rows: Sequence[GalleryRow], dimension: int) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D). Those of the last sample are not read again."""
        new = [row for row in rows if (row.id, row.crc32) not in self._vectors]
        read = dict(zip([(row.id, row.crc32) for row in new], moment.vectors(new), strict=True)) if new else {}
        known = {**self._vectors, **read}
        self._vectors = {(row.id, row.crc32): known[row.id, row.crc32] for row in rows}
        return np.stack(list(self._vectors.values())) if rows else np.empty((0, dimension), np.float32)


def _listed_rows(moment: Moment) -> list[GalleryRow]:
    assert isinstance(moment, ListedMoment)
    ids = moment.ids()
    return sorted(moment.rows_by_id(sampled(ids[ids >= 0]).tolist()), key=lambda row: row.id)


def _found_rows(moment: Moment, dimension: int) -> list[GalleryRow]:
    """Rows of a server, which would have to read all of them for a list: those that lie in fixed random directions."""
    directions = np.random.default_rng(0).standard_normal((_DIRECTIONS, dimension)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = moment.search(directions, SAMPLE_ROWS // _DIRECTIONS)
    rows = {hit.row.id: hit.row for hits in found.hits for hit in hits}
    return [rows[id_] for id_ in sorted(rows)]
