"""A store of a gallery in memory: the slow, obvious form of the store contract, for tests of what stands on a store."""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ClosedError, GalleryChangedError
from rrid_edge.gallery.base import (
    ForgetReport,
    GalleryInfo,
    GalleryRow,
    Hit,
    NewRow,
    SearchFilter,
    SearchResult,
    Verification,
)
from rrid_edge.gallery.shared import accepted_descriptors, accepted_rows, exact_scores
from rrid_edge.model.spec import ModelSpec

SPEC = fake_spec(block_width=4)  # 60 values per descriptor


def vectors(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _order(row: GalleryRow) -> tuple[bytes, int]:
    return os.fsencode(row.path or ""), row.id


class MemoryMoment:
    def __init__(
        self, spec: ModelSpec, facts: dict[str, str], stored: dict[int, tuple[GalleryRow, np.ndarray]]
    ) -> None:
        self._spec, self._facts, self._stored = spec, facts, stored

    def info(self) -> GalleryInfo:
        facts, count = self._facts, len(self._stored)
        retention_s = int(facts["retention_s"]) if facts.get("retention_s") else None
        names = (facts.get("pattern", ""), facts.get("time_from", ""))
        return GalleryInfo(self._spec, facts.get("model", ""), count, count, "float32", 0, "", *names, retention_s)

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        wanted = None if sources is None else set(sources)
        return sorted((row for row, _ in self._stored.values() if wanted is None or row.source in wanted), key=_order)

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        return [row for row in self.rows([source]) if row.path in set(paths)]

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        return [self._stored[identifier][0] for identifier in ids if identifier in self._stored]

    def search(self, queries: np.ndarray, top_k: int, search_filter: SearchFilter | None = None) -> SearchResult:
        passing = [row for row in self.rows() if (search_filter or SearchFilter()).passes(row)]
        answers = []
        for query in queries:
            scores = exact_scores(query, self.vectors(passing)) if passing else np.empty(0, np.float32)
            hits = [Hit(row, float(score)) for row, score in zip(passing, scores, strict=True)]
            answers.append(tuple(sorted(hits, key=lambda hit: (-hit.score, _order(hit.row)))[:top_k]))
        count = len(passing)
        return SearchResult(tuple(answers), ("scan",) * len(queries), count, (count,) * len(queries))

    def vectors(self, rows: Sequence[GalleryRow]) -> np.ndarray:
        for row in rows:
            if row.id not in self._stored:
                raise GalleryChangedError(f"row {row.id} is gone: read again")
        return np.stack([self._stored[row.id][1] for row in rows])


class MemoryStore:
    """Holds rows and vectors in a dictionary, behind one lock. ``moments`` counts the moments that were held."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._lock = threading.Lock()
        self._stored: dict[int, tuple[GalleryRow, np.ndarray]] = {}
        self._thumbnails: dict[int, bytes] = {}
        self._facts: dict[str, str] = {}
        self._next = 1
        self._unreadable: dict[str, dict[str, tuple[int, int]]] = {}
        self._removed: list[GalleryRow] = []
        self._kept_out: set[str] = set()
        self._closed = False
        self.moments = 0

    where = "memory"

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def _now(self) -> MemoryMoment:
        with self._lock:
            if self._closed:
                raise ClosedError("the gallery memory")
            return MemoryMoment(self._spec, dict(self._facts), dict(self._stored))

    @contextlib.contextmanager
    def moment(self) -> Iterator[MemoryMoment]:
        self.moments += 1
        yield self._now()

    def info(self) -> GalleryInfo:
        return self._now().info()

    def rows(self, sources: Iterable[str] | None = None) -> list[GalleryRow]:
        return self._now().rows(sources)

    def rows_of(self, paths: Sequence[str], source: str) -> list[GalleryRow]:
        return self._now().rows_of(paths, source)

    def rows_by_id(self, ids: Sequence[int]) -> list[GalleryRow]:
        return self._now().rows_by_id(ids)

    def search(self, queries: np.ndarray, top_k: int, search_filter: SearchFilter | None = None) -> SearchResult:
        return self._now().search(queries, top_k, search_filter)

    def vectors(self, rows: Sequence[GalleryRow]) -> np.ndarray:
        return self._now().vectors(rows)

    def file_stats(self, source: str) -> dict[str, tuple[int, int]]:
        return {row.path: (row.size, row.mtime_ns) for row in self.rows([source]) if row.path is not None}

    def sources(self) -> dict[str, int]:
        return Counter(row.source for row in self.rows())

    def cameras(self) -> dict[str | None, int]:
        return Counter(row.camera for row in self.rows())

    def add(self, rows: Sequence[NewRow], vectors: np.ndarray) -> list[int]:
        checked = accepted_descriptors(vectors, len(rows), self._spec.dimension)
        ids = []
        for row, vector in zip(accepted_rows(rows), checked, strict=True):
            with self._lock:
                known = [old.id for old, _ in self._stored.values() if row.path and _same_file(old, row)]
                identifier = known[0] if known else self._next
                self._next += not known
                told = {field.name: getattr(row, field.name) for field in fields(NewRow)} | {"thumbnail": None}
                stored = GalleryRow(**told, id=identifier, crc32=zlib.crc32(vector.tobytes()))
                self._stored[identifier] = (stored, vector)
                if row.thumbnail is not None:
                    self._thumbnails[identifier] = row.thumbnail
            ids.append(identifier)
        return ids

    def update(self, rows: Sequence[GalleryRow]) -> None:
        with self._lock:
            for row in rows:
                if row.id in self._stored:
                    self._stored[row.id] = (row, self._stored[row.id][1])

    def remove(self, rows: Iterable[int | str]) -> int:
        wanted = set(rows)
        with self._lock:
            gone = [key for key, (row, _) in self._stored.items() if key in wanted or row.path in wanted]
            for key in gone:
                self._removed.append(self._stored.pop(key)[0])
                self._thumbnails.pop(key, None)
        return len(gone)

    def forget(self, rows: Iterable[int | str], *, keep_out: bool = True) -> ForgetReport:
        wanted = set(rows)
        self.remove(wanted)
        erased = [row for row in self._removed if row.id in wanted or row.path in wanted]
        self._removed = [row for row in self._removed if row not in erased]
        if keep_out:
            self._kept_out |= {row.sha256 for row in erased if row.sha256}
        return ForgetReport(len(erased))

    def removed(self) -> list[GalleryRow]:
        return list(self._removed)

    def kept_out(self, digests: Iterable[str]) -> set[str]:
        return self._kept_out & set(digests)

    def unforget(self, digests: Iterable[str] | None = None) -> int:
        found = self._kept_out if digests is None else self._kept_out & set(digests)
        self._kept_out = self._kept_out - found
        return len(found)

    def kept_out_state(self) -> str:
        return " ".join(sorted(self._kept_out))

    def restore_kept_out(self, state: str) -> None:
        self._kept_out |= set(state.split())

    def remember(self, facts: Mapping[str, str]) -> None:
        self._facts.update(facts)

    def unreadable(self, source: str) -> dict[str, tuple[int, int]]:
        return dict(self._unreadable.get(source, {}))

    def set_unreadable(self, source: str, files: Mapping[str, tuple[int, int]]) -> None:
        self._unreadable[source] = dict(files)

    def thumbnails(self, ids: Sequence[int]) -> dict[int, bytes]:
        return {key: self._thumbnails[key] for key in ids if key in self._thumbnails}

    def damaged(self) -> list[GalleryRow]:
        return []

    def finish(self) -> None:
        pass

    def compact(self) -> int:
        return 0

    def verify(self) -> Verification:
        return Verification(self.info().rows)

    def close(self) -> None:
        self._closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _same_file(old: GalleryRow, new: NewRow) -> bool:
    return (old.source, old.path) == (new.source, new.path)
