"""Matching on a made-up store: one moment per answer, rows without files, and doubts about queries and answers."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from rrid_edge import matching
from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import GalleryChangedError, UsageError
from rrid_edge.gallery.base import GalleryRow, Hit, SearchFilter, SearchResult
from rrid_edge.gallery.sampling import RowSample, SampledRow
from rrid_edge.matching import LEAST_LIKENESS, MatchSettings

match: Any = matching.match  # the stand-ins here have only the methods that matching calls
match_all: Any = matching.match_all
SPEC = fake_spec(block_width=1)
NOON_US = int(datetime(2026, 11, 25, 12, tzinfo=timezone.utc).timestamp()) * 1_000_000


def unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def some_vectors(count, seed=1):
    return unit(np.random.default_rng(seed).standard_normal((count, SPEC.dimension)))


class State:
    """One state of a store, in which searches are loops. ``calls`` counts what is asked."""

    def __init__(self, store, rows, vectors):
        self._store, self._rows, self._vectors = store, rows, vectors

    def rows(self, sources=None):
        return list(self._rows)

    def search(self, queries, top_k, search_filter=None):
        self._store.calls["search"] += 1
        allowed = [index for index, row in enumerate(self._rows) if (search_filter or SearchFilter()).passes(row)]
        hits = []
        for query in queries:
            scored = [Hit(self._rows[index], float(self._vectors[index] @ query)) for index in allowed]
            scored.sort(key=lambda hit: (-hit.score, hit.row.path or "", hit.row.id))
            hits.append(tuple(scored[:top_k]))
        count = len(queries)
        return SearchResult(tuple(hits), ("scan",) * count, len(allowed), (len(allowed),) * count)

    def vectors(self, rows):
        self._store.calls["vectors"] += 1
        if self._store.changes:
            self._store.change()
            raise GalleryChangedError("store: a row was forgotten")
        ids = [row.id for row in self._rows]
        return np.stack([self._vectors[ids.index(row.id)] for row in rows])

    def sample(self, count):
        told = tuple(SampledRow.of(row.person, row.label, row.path) for row in self._rows[:count])
        return RowSample(told, self._vectors[:count])


class Store:
    """A store that outside of a moment answers nothing. The next ``changes`` reads of vectors find it changed."""

    where, spec = "store", SPEC

    def __init__(self, rows, vectors, changes=0):
        self._rows, self._stored, self.changes = list(rows), vectors, changes
        self.calls: Counter[str] = Counter()

    def change(self):
        """Forget the first row."""
        self.changes -= 1
        self._rows, self._stored = self._rows[1:], self._stored[1:]

    @contextlib.contextmanager
    def moment(self):
        self.calls["moment"] += 1
        yield State(self, self._rows, self._stored)


def made_rows(count):
    return [GalleryRow(f"{index:02d}.jpg", camera=str(index % 3), id=index + 100) for index in range(count)]


@pytest.mark.parametrize(
    "settings", [MatchSettings(5), MatchSettings(5, "max", expand=3), MatchSettings(5, rerank=25, expand=2)]
)
def test_an_answer_is_read_in_one_moment(settings):
    store = Store(made_rows(40), some_vectors(40))
    queries = [Query(("a.jpg", "b.jpg"), some_vectors(2, 7)), Query(("c.jpg",), some_vectors(1, 8))]
    found = match_all(store, queries, settings)
    assert store.calls["moment"] == 1
    assert [len(result.matches) for result in found] == [5, 5]
    for result in found:
        for item in result.matches:
            assert sum(item.block_scores) == pytest.approx(item.score, abs=1e-5)
            assert item.id == int(item.path[:2]) + 100


def test_an_answer_is_computed_again_if_the_gallery_changed():
    vectors = some_vectors(40)
    query = Query(("a.jpg",), vectors[:1])
    assert match(Store(made_rows(40), vectors), query).matches[0].path == "00.jpg"
    store = Store(made_rows(40), vectors, changes=2)
    found = match(store, query, MatchSettings(10, expand=2)).matches
    assert store.calls["moment"] == 3
    # The two forgotten rows are in no part of the answer: it equals that of the store without them.
    assert found == match(Store(made_rows(40)[2:], vectors[2:]), query, MatchSettings(10, expand=2)).matches
    with pytest.raises(GalleryChangedError, match=r"^store: the gallery changed 3 times while it was read; try again"):
        match(Store(made_rows(40), vectors, changes=3), query)


def test_rows_without_files_and_equal_paths_of_two_sources_stay_apart():
    vectors = some_vectors(5)
    rows = [
        GalleryRow("a.jpg", id=1, source="north", time=NOON_US, person="0001"),
        GalleryRow("a.jpg", id=2, source="south", frame=7, label="anna"),
        GalleryRow(None, id=3, camera="lobby", track="t1"),
        GalleryRow(None, id=4),
        GalleryRow("b.jpg", id=5),
    ]
    found = match(Store(rows, vectors), Query(("q.jpg",), vectors[2:3]), MatchSettings(5)).matches
    assert {item.id for item in found} == {1, 2, 3, 4, 5}
    assert found[0].name == "#3"
    assert (found[0].path, found[0].camera, found[0].track) == (None, "lobby", "t1")
    by_id = {item.id: item for item in found}
    assert (by_id[1].source, by_id[1].time, by_id[1].person, by_id[1].name) == ("north", NOON_US, "0001", "a.jpg")
    assert (by_id[2].source, by_id[2].frame, by_id[2].label) == ("south", 7, "anna")
    for item in found:
        assert item.score == pytest.approx(float(vectors[item.id - 1] @ vectors[2]), abs=1e-6)
        assert sum(item.block_scores) == pytest.approx(item.score, abs=1e-5)
    # Equal scores are ordered by path, then id; a crop without a path comes first.
    same = match(Store(rows, np.repeat(vectors[:1], 5, axis=0)), Query(("q.jpg",), vectors[:1])).matches
    assert [item.id for item in same] == [3, 4, 1, 2, 5]


def test_several_images_keep_the_best_score_of_a_row_without_a_path():
    vectors = some_vectors(3)
    rows = [GalleryRow(None, id=index) for index in range(3)]
    found = match(Store(rows, vectors), Query(("a", "b"), vectors[:2]), MatchSettings(3, "max")).matches
    assert [round(item.score, 5) for item in found[:2]] == [1.0, 1.0]
    assert {item.id for item in found} == {0, 1, 2}


def test_filters_that_let_nothing_pass_say_what_there_is():
    vectors = some_vectors(6)
    rows = [
        GalleryRow("a.jpg", camera="lobby", time=NOON_US, id=1),
        GalleryRow("b.jpg", camera="lobby", time=NOON_US + 1_500_000, id=2),
        GalleryRow("c.jpg", camera="10", frame=451, id=3),
        GalleryRow("d.jpg", camera="2", frame=9, id=4),
        GalleryRow(None, source="north", id=5),
        GalleryRow("e\n.jpg", camera="do\nck", id=6),
    ]
    store = Store(rows, vectors)
    nowhere = SearchFilter(cameras=frozenset({"garage"}))
    queries = [Query(("q.jpg",), vectors[:1]), Query(("r.jpg",), vectors[1:2])]
    found = match_all(store, queries, MatchSettings(rows=nowhere))
    line = (
        "no crop passes the filters; the gallery's 6 crops have cameras lobby (2), 2 (1), 10 (1), do\\nck (1), "
        "not told (1); times 2026-11-25T12:00:00Z to 2026-11-25T12:00:01.500000Z; frames 9 to 451; "
        "sources local (5), north (1)"
    )
    assert [result.warnings for result in found] == [(line,), (line,)]
    assert [result.matches for result in found] == [(), ()]
    # With re-ranking too, which has nothing to compare.
    assert match(store, queries[0], MatchSettings(rows=nowhere, rerank=20)).warnings == (line,)
    assert match(store, queries[0], MatchSettings(rows=SearchFilter(cameras=frozenset({"2"})))).warnings == ()
    with pytest.raises(UsageError, match="1 crops pass the filters, but re-ranking needs at least 20"):
        match(store, queries[0], MatchSettings(rows=SearchFilter(cameras=frozenset({"2"})), rerank=20))
    assert match(Store([], vectors[:0]), queries[0]).warnings == ("the gallery has no crops",)


def test_many_cameras_are_counted():
    rows = [GalleryRow(f"{index}.jpg", camera=str(index), id=index) for index in range(30)]
    result = match(
        Store(rows, some_vectors(30)),
        Query(("q.jpg",), some_vectors(1)),
        MatchSettings(rows=SearchFilter(cameras=frozenset({"x"}))),
    )
    assert ", 19 (1), 10 more; no times; sources local (30)" in result.warnings[0]


def test_images_that_do_not_look_like_one_person_are_pointed_out():
    store = Store(made_rows(5), some_vectors(5))
    first = np.eye(1, SPEC.dimension, dtype=np.float32)[0]

    def turned(cosine):
        """A unit vector of that cosine with ``first``."""
        other = cosine * first
        other[1] = np.sqrt(1 - cosine**2)
        return other

    for cosine, doubted in ((LEAST_LIKENESS - 0.01, True), (LEAST_LIKENESS + 0.01, False), (-1.0, True), (1.0, False)):
        query = Query(("a.jpg", "b.jpg"), np.stack([first, turned(cosine)]), warnings=("seen before",))
        warnings = match(store, query, MatchSettings(fuse="max")).warnings
        assert warnings[0] == "seen before"
        assert len(warnings) == 1 + doubted, cosine
        if doubted:
            assert warnings[1] == (
                f"a.jpg and b.jpg do not look like one person (cosine {cosine:.2f}): expected at least 0.50; make each "
                "person a query of its own"
            )
    three = Query(("a", "b", "c"), np.stack([first, turned(0.9), turned(0.1)]))
    assert match(store, three).warnings[0].startswith("a and c do not look like one person (cosine 0.10)")
    assert match(store, replace(three, files=("a",), descriptors=first[None])).warnings == ()
    assert match(store, three, MatchSettings(least_likeness=0.05)).warnings == ()
    with pytest.raises(UsageError, match=r"least_likeness 1.5 is not a cosine"):
        MatchSettings(least_likeness=1.5)
