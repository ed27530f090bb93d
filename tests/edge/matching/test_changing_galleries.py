"""Matching while another writer changes the gallery between the steps of an answer."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rrid_edge import matching
from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import GalleryChangedError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.matching import MatchSettings

match: Any = matching.match  # the stand-ins here have only the methods that matching calls
match_all: Any = matching.match_all
SPEC = fake_spec(block_width=4)
SETTINGS = [
    MatchSettings(8),
    MatchSettings(8, expand=5),
    MatchSettings(8, "max", rerank=25),
    MatchSettings(8, expand=3, rerank=25),
]


def some_vectors(count, seed=1):
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def made_rows(count, start=0):
    return [NewRow(f"{index:03d}.jpg", f"{index:064x}", 1, 1, str(index % 3)) for index in range(start, start + count)]


class Disturbed:
    """A store on which ``disturb`` runs after each search, as another process would between two reads."""

    def __init__(self, store, disturb):
        self._store, self._disturb = store, disturb
        self.where, self.spec, self.moments = store.where, store.spec, 0

    @contextlib.contextmanager
    def moment(self):
        self.moments += 1
        with self._store.moment() as moment:
            self._moment = moment
            yield self

    def search(self, *arguments, **options):
        found = self._moment.search(*arguments, **options)
        self._disturb()
        return found

    def vectors(self, rows):
        return self._moment.vectors(rows)

    def rows(self, sources=None):
        return self._moment.rows(sources)

    def sample(self, count):
        return self._moment.sample(count)


@pytest.fixture
def places(tmp_path):
    """The location of a gallery of 60 rows, half of whose slots are free, and its vectors by path."""
    vectors = some_vectors(80)
    with LocalGallery.create(tmp_path / "g", SPEC, dtype="float32") as store:
        store.add(made_rows(80), vectors)
        store.remove([f"{index:03d}.jpg" for index in range(20)])
    return tmp_path / "g", {f"{index:03d}.jpg": vector for index, vector in enumerate(vectors)}


def checked(result, vectors, query):
    """The block shares of every match are those of its own vector."""
    for item in result.matches:
        assert sum(item.block_scores) == pytest.approx(item.score, abs=1e-5), item.path
        assert max(float(vectors[item.path] @ one) for one in query.descriptors) == pytest.approx(item.score, abs=1e-5)


@pytest.mark.parametrize("settings", [MatchSettings(8, "max"), MatchSettings(8, "max", rerank=25)])
def test_a_compaction_between_two_reads_changes_no_answer(places, settings):
    location, vectors = places
    query = Query(("a.jpg", "b.jpg"), some_vectors(2, 9))

    def compact():
        with LocalGallery(location, write=True) as writer:
            writer.compact()

    with LocalGallery(location) as reader:
        expected = match(reader, query, settings)
        checked(expected, vectors, query)
        found = match(Disturbed(reader, compact), query, settings)
        assert replace(found, search="") == replace(expected, search="")


@pytest.mark.parametrize("settings", SETTINGS)
def test_rows_that_are_forgotten_meanwhile_are_in_no_part_of_an_answer(places, settings):
    location, _ = places
    queries = [Query((name,), some_vectors(1, seed)) for seed, name in enumerate(("a.jpg", "b.jpg"), 9)]
    best: list[int] = []

    def forget_once():
        if not best:
            with LocalGallery(location, write=True) as writer:
                best.extend(hit.row.id for hit in writer.search(queries[0].descriptors, 3).hits[0])
                writer.forget(best)

    with LocalGallery(location) as reader:
        disturbed = Disturbed(reader, forget_once)
        found = match_all(disturbed, queries, settings)
        expected = match_all(reader, queries, settings)
    assert len(best) == 3
    assert not {item.id for result in found for item in result.matches} & set(best)
    assert found == expected


def test_a_gallery_that_always_changes_ends_in_one_line(places):
    location, _ = places
    query = Query(("a.jpg",), some_vectors(1, 9))

    def forget_best():
        with LocalGallery(location, write=True) as writer:
            writer.forget([writer.search(query.descriptors, 1).hits[0][0].row.id])

    with (
        LocalGallery(location) as reader,
        pytest.raises(GalleryChangedError, match=r"the gallery changed 3 times while it was read; try again") as caught,
    ):
        match(Disturbed(reader, forget_best), query, MatchSettings(5))
    assert "\n" not in caught.value.message


def test_rows_that_are_added_meanwhile_belong_to_the_next_answer(places):
    location, vectors = places
    query = Query(("a.jpg",), some_vectors(1, 9))
    number = iter(range(100, 200))

    def add_same_person():
        with LocalGallery(location, write=True) as writer:
            writer.add(made_rows(1, next(number)), query.descriptors)

    with LocalGallery(location) as reader:
        found = match(Disturbed(reader, add_same_person), query, MatchSettings(8, expand=4))
        assert max(item.score for item in found.matches) < 0.999
        assert {item.path for item in found.matches} <= set(vectors)
        assert match(reader, query).matches[0].score == pytest.approx(1, abs=1e-5)
