"""The gallery contract: what every store of descriptors offers, and the records it speaks in."""

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
    """What is known of a crop before it is stored.

    Attributes:
        path: relative to the gallery folder, POSIX separators; undecodable bytes as surrogate escapes.
        sha256: of the file's bytes (hex).
        size: of the file in bytes.
        mtime_ns: modification time of the file in nanoseconds.
        camera: camera number where the name tells.
        person: as the name writes it (``0002``, ``-1``), where it tells.
        time: capture time or frame number where the name tells.
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
        slot: its position in the store; -1 where a store has none.
        crc32: checksum of its stored vector.
    """

    slot: int = -1
    crc32: int = 0


@dataclass(frozen=True)
class GalleryInfo:
    """What a store says of itself.

    Attributes:
        spec: of the model that made the descriptors.
        model: path of the model file that was used last, or empty.
        rows: live crops.
        slots: rows of the vector file, dead ones included.
        dtype: ``float16`` or ``float32``: the precision that values were rounded to.
        generation: number of the vector file.
        index_type: kind of the server's vector index (``flat``, ``hnsw`` ...); empty where the store is a folder.
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
    """Which rows may answer; empty fields let all pass.

    Attributes:
        cameras: only these cameras.
        not_cameras: none of these; a row of unknown camera passes.
        since: rows of this time or later; rows of unknown time do not pass.
        until: rows of this time or earlier, likewise.
        not_paths: these paths are left out (the query's own file).
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
    """One answer of a search.

    Attributes:
        row: the crop.
        score: cosine with the query.
    """

    row: GalleryRow
    score: float


@dataclass(frozen=True)
class SearchResult:
    """Answers to several queries.

    Attributes:
        hits: for every query its best rows, best first; ties stand in the order of their paths.
        modes: for every query how the store searched: ``scan``, ``two-pass``, ``fast``, or the kind of a server's index.
        rows: rows that passed the filter.
        scored: for every query the rows whose score was computed exactly.
    """

    hits: tuple[tuple[Hit, ...], ...]
    modes: tuple[str, ...]
    rows: int
    scored: tuple[int, ...]

    @property
    def mode(self) -> str:
        """How the store searched, in one word where all queries went one way."""
        return " and ".join(sorted(set(self.modes)))

    @property
    def rescored(self) -> int:
        """Rows whose score was computed exactly, over all queries."""
        return sum(self.scored)

    def part(self, queries: slice) -> SearchResult:
        """The answers to some of the queries."""
        return SearchResult(self.hits[queries], self.modes[queries], self.rows, self.scored[queries])


@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        rows: live rows looked at.
        damaged: rows whose vector does not fit its checksum.
        bounds_sound: whether the search's projected rows fit their checksum; they are made again by the next index.
        lost: crops that were committed once and that the store no longer knows of; the next index embeds them again.
    """

    rows: int
    damaged: tuple[GalleryRow, ...] = field(default=())
    bounds_sound: bool = True
    lost: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damaged and self.bounds_sound and not self.lost


@runtime_checkable
class Gallery(Protocol):
    """A store of descriptors of one model; a context manager.

    Rows and their vectors become visible together, or not at all. A store opened for reading is a snapshot of one moment
    for each call; see the stores for what they add to that, or cannot promise.
    """

    @property
    def forgetting(self) -> str:
        """What :meth:`remove` with ``overwrite`` has done to descriptors, in words for the user."""
        ...

    @property
    def where(self) -> str:
        """The gallery's location as messages name it."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """Of the model that made the descriptors; known since the opening, so it costs nothing."""
        ...

    def info(self) -> GalleryInfo:
        """What the store says of itself now; reads the store, and a server counts its rows for it."""
        ...

    def rows(self) -> list[GalleryRow]:
        """All live rows, in the order of their paths."""
        ...

    def rows_of(self, paths: Sequence[str]) -> list[GalleryRow]:
        """The live rows of some paths, in no order; paths that are not there are left out."""
        ...

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live crop's file by its path, in no order."""
        ...

    def add(self, rows: Sequence[NewRow], vectors: NDArray[np.float32]) -> None:
        """Store crops with their descriptors (N, D); a crop of a path that is there already replaces it."""
        ...

    def remove(self, paths: Iterable[str], *, overwrite: bool = False) -> int:
        """Take crops out; with ``overwrite`` their vectors are destroyed on the disk. Returns how many were there."""
        ...

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and times of crops whose content is the same."""
        ...

    def set_model(self, model: Path) -> None:
        """Remember which model file was used, for queries to come."""
        ...

    def damaged(self) -> list[GalleryRow]:
        """Rows whose vectors must be made again, as far as the store knows; an index does that."""
        ...

    def finish(self) -> None:
        """Bring what speeds a search up in step with the rows: the last step of an indexing."""
        ...

    def compact(self) -> int:
        """Free the room of rows that are gone; returns how many were freed, as far as the store can tell."""
        ...

    def search(
        self,
        queries: NDArray[np.float32],
        top_k: int,
        search_filter: SearchFilter | None = None,
        *,
        fast: bool = False,
    ) -> SearchResult:
        """The ``top_k`` rows of highest cosine for every query (Q, D) of unit length; ``fast`` may miss some."""
        ...

    def vectors(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """The descriptors of some rows, float32 (N, D)."""
        ...

    def verify(self) -> Verification:
        """Check every stored vector against its checksum."""
        ...

    def close(self) -> None:
        """Free what the store holds; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
