"""The gallery contract: the methods of every store, and the records that they take and return."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.model.spec import ModelSpec


@dataclass(frozen=True)
class NewRow:
    """A crop that is not stored yet.

    Attributes:
        path: relative to the gallery folder, POSIX separators; undecodable bytes as surrogate escapes.
        sha256: of the file's bytes (hex).
        size: of the file in bytes.
        mtime_ns: modification time of the file in nanoseconds.
        camera: camera number from the file name, or None.
        person: person as the file name writes it (``0002``, ``-1``), or None.
        time: capture time or frame number from the file name, or None.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int
    camera: int | None = None
    person: str | None = None
    time: int | None = None


@dataclass(frozen=True)
class GalleryRow(NewRow):
    """A stored crop.

    Attributes:
        slot: position in the vector file; -1 in stores without slots.
        crc32: checksum of the stored vector.
    """

    slot: int = -1
    crc32: int = 0


@dataclass(frozen=True)
class GalleryInfo:
    """Facts of a gallery.

    Attributes:
        spec: of the model that made the descriptors.
        model: path of the model file that was used last, or empty.
        rows: number of live rows.
        slots: number of slots in the vector file, dead ones included.
        dtype: ``float16`` or ``float32``: the type that values were rounded to.
        generation: number of the vector file.
        index_type: type of the server's vector index (``flat``, ``hnsw`` ...); empty for a folder.
    """

    spec: ModelSpec
    model: str
    rows: int
    slots: int
    dtype: str
    generation: int
    index_type: str = ""


@dataclass(frozen=True)
class SearchFilter:
    """Which rows may answer. An empty field lets all rows pass.

    Attributes:
        cameras: only these cameras.
        not_cameras: none of these cameras. Rows of unknown camera pass.
        since: only this time or later. Rows of unknown time do not pass.
        until: only this time or earlier. Rows of unknown time do not pass.
        not_paths: none of these paths, such as the query's own file.
    """

    cameras: frozenset[int] = frozenset()
    not_cameras: frozenset[int] = frozenset()
    since: int | None = None
    until: int | None = None
    not_paths: frozenset[str] = frozenset()

    def passes(self, row: NewRow) -> bool:
        """Whether a row may answer."""
        if self.cameras and row.camera not in self.cameras:
            return False
        if row.camera is not None and row.camera in self.not_cameras:
            return False
        if self.since is not None and (row.time is None or row.time < self.since):
            return False
        if self.until is not None and (row.time is None or row.time > self.until):
            return False
        return row.path not in self.not_paths


@dataclass(frozen=True)
class Hit:
    """One row of an answer.

    Attributes:
        row: the crop.
        score: cosine with the query, in [-1, 1].
    """

    row: GalleryRow
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Answers to several queries.

    Attributes:
        hits: per query, the best rows, best first; ties are ordered by path.
        modes: per query, how the store searched: ``scan``, ``two-pass``, ``fast``, or the server's index type.
        rows: number of rows that passed the filter.
        scored: per query, number of rows whose score was computed exactly.
    """

    hits: tuple[tuple[Hit, ...], ...]
    modes: tuple[str, ...]
    rows: int
    scored: tuple[int, ...]

    @property
    def mode(self) -> str:
        """How the store searched: one mode, or several joined by ``and``."""
        return " and ".join(sorted(set(self.modes)))

    @property
    def rescored(self) -> int:
        """Number of scores that were computed exactly, over all queries."""
        return sum(self.scored)

    def select(self, queries: slice) -> SearchResult:
        """The answers to some of the queries."""
        return SearchResult(self.hits[queries], self.modes[queries], self.rows, self.scored[queries])


@dataclass(frozen=True)
class Verification:
    """The result of a verification. The next ``index`` repairs everything that it reports.

    Attributes:
        rows: number of live rows checked.
        damaged: rows whose vector does not match its checksum.
        bounds_sound: whether the projected rows of the two-pass search match their checksum.
        lost: number of committed rows that the catalogue no longer has.
    """

    rows: int
    damaged: tuple[GalleryRow, ...] = field(default=())
    bounds_sound: bool = True
    lost: int = 0

    @property
    def sound(self) -> bool:
        """Whether the verification found no damage."""
        return not self.damaged and self.bounds_sound and not self.lost


@runtime_checkable
class Gallery(Protocol):
    """A store of descriptors of one model; a context manager.

    A row and its vector become visible together. Each read is one snapshot; the stores document exceptions.
    """

    @property
    def erasure(self) -> str:
        """What :meth:`remove` with ``overwrite`` did to descriptors, as text for users."""
        ...

    @property
    def where(self) -> str:
        """The gallery's location as messages name it."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The model that made the descriptors; read once, when the gallery is opened."""
        ...

    def info(self) -> GalleryInfo:
        """The gallery's facts. Reads the store; a server counts its rows."""
        ...

    def rows(self) -> list[GalleryRow]:
        """All live rows, ordered by path."""
        ...

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The live rows of some paths, in no order; unknown paths are left out."""
        ...

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file, by path, in no order."""
        ...

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors, float32 (N, D). A path that exists is replaced."""
        ...

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Remove crops; with ``overwrite`` their vectors are also erased. Returns how many existed."""
        ...

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and modification times of crops whose content is the same."""
        ...

    def set_model(self, model: Path) -> None:
        """Record the model file, for later queries."""
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

    def search(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        search_filter: SearchFilter | None = None,
        *,
        fast: bool = False,
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine per query, float32 (Q, D) of unit length; ``fast`` may miss rows."""
        ...

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D)."""
        ...

    def verify(self) -> Verification:
        """Check every stored vector against its checksum."""
        ...

    def close(self) -> None:
        """Release files, locks and connections; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
