"""A moment of a gallery in Milvus: the gallery, and the vectors of the answers that it gave."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryInfo, GalleryRow, SearchFilter, SearchResult
from rrid_edge.gallery.milvus.search import search_result
from rrid_edge.gallery.stored import VECTORS_IN_MEMORY

if TYPE_CHECKING:
    from rrid_edge.gallery.milvus.reading import MilvusReads


class MilvusMoment:
    """Reads a gallery and keeps the vectors of its answers, so that ranked rows are fetched once.

    Implements :class:`rrid_edge.gallery.contract.Moment`. Its methods may be called from any thread.

    Args:
        gallery: to read.
    """

    def __init__(self, gallery: MilvusReads) -> None:
        self._gallery = gallery
        self._kept: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def info(self) -> GalleryInfo:
        """The gallery's facts. Counts the rows on the server."""
        return self._gallery.info()

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        """All rows, or those of some sources, ordered by the bytes of their paths, then by id."""
        return self._gallery.rows(sources)

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        """The rows of some paths of a source, in no order; unknown paths are left out."""
        return self._gallery.rows_of(paths, source)

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        """The rows of some ids, in no order; unknown ids are left out."""
        return self._gallery.rows_by_id(ids)

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for each query; see :meth:`MilvusReads.search`."""
        return self._searched(queries, top_k, search_filter, fast=False)

    def search_approximately(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """Like :meth:`search`, from the candidates of the server's index, which may miss rows."""
        return self._searched(queries, top_k, search_filter, fast=True)

    def _searched(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None, *, fast: bool
    ) -> SearchResult:
        answers, passing = self._gallery.answers(queries, top_k, search_filter, fast=fast)
        with self._lock:
            for answer in answers:
                for hit, vector in zip(answer.hits, answer.vectors, strict=False):  # a scan hands out no vectors
                    if len(self._kept) < VECTORS_IN_MEMORY:
                        self._kept.setdefault((hit.row.id, hit.row.crc32), vector)
        return search_result(answers, passing)

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D). Those of answers are not read again.

        Raises:
            GalleryChangedError: a row was removed or its content changed since it was read.
            GalleryError: a vector is damaged.
        """
        kept = [self._kept.get((row.id, row.crc32)) for row in rows]
        missing = [row for row, vector in zip(rows, kept, strict=True) if vector is None]
        read = iter(self._gallery.vectors(missing))
        found = [next(read) if vector is None else vector for vector in kept]
        return np.stack(found) if found else np.empty((0, self._gallery.spec.dimension), np.float32)
