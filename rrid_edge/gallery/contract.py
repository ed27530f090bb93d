"""The store contract: the methods of every store of a gallery.

Programs use :class:`rrid_edge.gallery.library.Gallery`, which stands on a store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.errors import GalleryChangedError
from rrid_edge.gallery.base import (
    ForgetReport,
    GalleryInfo,
    GalleryRow,
    NewRow,
    SearchFilter,
    SearchResult,
    Verification,
)
from rrid_edge.gallery.summary import RowSummary
from rrid_edge.model.spec import ModelSpec

_Result = TypeVar("_Result")


class Moment(Protocol):
    """One committed state of a gallery. All that is read here belongs together, whatever others write meanwhile."""

    def info(self) -> GalleryInfo:
        """The gallery's facts. A server counts its rows."""
        ...

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        """All live rows, or those of some sources, ordered by the bytes of their paths, then by id."""
        ...

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        """The live rows of some paths of a source, in no order; unknown paths are left out."""
        ...

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        """The live rows of some ids, in no order; unknown ids are left out."""
        ...

    def search(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine per query, float32 (Q, D) of unit length."""
        ...

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows of this moment, float32 (N, D), each checked against its row's checksum.

        Raises:
            GalleryChangedError: a row was forgotten or changed since; read again.
            GalleryError: a vector is damaged.
        """
        ...


@runtime_checkable
class ApproximateMoment(Protocol):
    """What a moment has besides if its store's index can answer approximately: Milvus."""

    def search_approximately(
        self, queries: NDArray[np.float32], top_k: int, search_filter: SearchFilter | None = None
    ) -> SearchResult:
        """Like :meth:`Moment.search`, from the candidates of the store's index: rows may be missed."""
        ...


@runtime_checkable
class SummarizedMoment(Protocol):
    """A moment that can tell what its rows hold without reading them one by one."""

    def summary(self) -> RowSummary:
        """What all live rows tell, in numbers."""
        ...


@runtime_checkable
class GalleryStore(Moment, Protocol):
    """A store of descriptors of one model; a context manager. Its methods may be called from any thread.

    A row and its vector become visible together. Each call reads one committed state; :meth:`moment` holds one for
    several calls.
    """

    @property
    def where(self) -> str:
        """The gallery's location as messages name it."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The model that made the descriptors; read once, when the gallery is opened."""
        ...

    def moment(self) -> AbstractContextManager[Moment]:
        """Hold one committed state. Other threads and processes may go on writing."""
        ...

    def file_stats(self, source: str) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file of a source, by path, in no order."""
        ...

    def sources(self) -> dict[str, int]:
        """Number of live rows by source."""
        ...

    def cameras(self) -> dict[str | None, int]:
        """Number of live rows by camera."""
        ...

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> list[int]:
        """Store crops with their descriptors, float32 (N, D), in one commit; returns their ids.

        A row whose source and path exist is replaced; with the same content it keeps its id and label.

        Raises:
            UsageError: a field or a descriptor is refused (type, range, not finite, not of unit length), a path occurs
                twice, or the shape is wrong. Nothing is written.
        """
        ...

    def update(self, rows: Sequence[GalleryRow]) -> None:
        """Write new fields of stored rows. Ids, paths, sources and vectors stay; rows that are gone are left out."""
        ...

    def remove(self, rows: Iterable[int | str]) -> int:
        """Remove rows by id or by path (of any source); returns how many existed. Vectors stay until compaction."""
        ...

    def forget(self, rows: Iterable[int | str], *, keep_out: bool = True) -> ForgetReport:
        """Remove rows by id or by path, and erase their vectors, thumbnails and entries.

        Rows that were removed earlier are erased too, under all the paths that they had.

        Args:
            rows: ids or paths.
            keep_out: remember the content as a keyed digest, so that indexing does not add it again.
        """
        ...

    def removed(self) -> list[GalleryRow]:
        """Rows that were removed and whose vectors are still stored; :meth:`forget` erases them by id or path.

        In no order. Empty in stores that keep nothing of removed rows.
        """
        ...

    def kept_out(self, digests: Iterable[str]) -> set[str]:
        """Those of some contents (SHA-256, hex) that were forgotten and must not be added."""
        ...

    def unforget(self, digests: Iterable[str] | None = None) -> int:
        """Let some forgotten contents (SHA-256, hex), or all of them, be added again; returns how many."""
        ...

    def kept_out_state(self) -> str:
        """The key and digests behind :meth:`kept_out`, as an opaque text; empty if nothing was forgotten."""
        ...

    def restore_kept_out(self, state: str) -> None:
        """Take over what :meth:`kept_out_state` returned, so that a rebuilt gallery keeps people out.

        Only for a gallery that has forgotten nothing since.
        """
        ...

    def remember(self, facts: Mapping[str, str]) -> None:
        """Record facts: ``model``, ``pattern``, ``time_from``, ``retention_s``; an empty text removes one."""
        ...

    def unreadable(self, source: str) -> dict[str, tuple[int, int]]:
        """Files that could not be read, by path: size (bytes), modification time (ns). Changed ones are tried again."""
        ...

    def set_unreadable(self, source: str, files: Mapping[str, tuple[int, int]]) -> None:
        """Replace what :meth:`unreadable` returns for a source."""
        ...

    def thumbnails(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Thumbnails (JPEG) by id; rows without one are left out."""
        ...

    def damaged(self) -> list[GalleryRow]:
        """Rows known to be damaged, which must be embedded again."""
        ...

    def finish(self) -> None:
        """Update the search index: the last step of indexing."""
        ...

    def compact(self) -> int:
        """Free the space of removed rows. Returns how many rows were freed, or 0 if the store cannot tell."""
        ...

    def verify(self) -> Verification:
        """Check every stored vector and every row against its checksum."""
        ...

    def close(self) -> None:
        """Release files, locks and connections; safe to call twice. Other calls are refused afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class StoreOwner(Protocol):
    """An object that stands on a store, such as :class:`rrid_edge.gallery.library.Gallery`."""

    @property
    def store(self) -> GalleryStore:
        """The store."""
        ...


def read_in_one_moment(store: GalleryStore, read: Callable[[Moment], _Result], attempts: int) -> _Result:
    """Read what belongs together from one moment, and again if others change rows that it needs meanwhile.

    Args:
        store: of the gallery.
        read: reads from the moment; it may be called several times.
        attempts: most calls of ``read``.

    Raises:
        GalleryChangedError: others changed the rows of every attempt.
    """
    for _ in range(attempts - 1):
        with contextlib.suppress(GalleryChangedError), store.moment() as moment:
            return read(moment)
    with store.moment() as moment:
        return read(moment)


def store_of(gallery: GalleryStore | StoreOwner) -> GalleryStore:
    """The store of a gallery, or the store itself."""
    # Not by isinstance: for a protocol it reads every attribute.
    return cast("GalleryStore", getattr(gallery, "store", gallery))
