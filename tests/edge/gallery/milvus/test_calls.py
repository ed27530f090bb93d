"""Number of calls to a Milvus server per match, from opening the gallery to the last match."""

from __future__ import annotations

import collections
import itertools
import json

import numpy as np
import pytest

from rrid_edge.embedding.queries import Query
from rrid_edge.gallery import SearchFilter
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.client import Connection
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import open_store
from rrid_edge.matching import MatchSettings, match_all
from support.commands import rrid_edge
from support.galleries import SPEC, rows, vectors
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

MOST_CALLS = 11
"""Of one match, for however many queries. Three of them read the sample of other people."""
_numbers = itertools.count()


@pytest.fixture
def address(lite_file):
    return MilvusAddress.parse(f"milvus+file:{lite_file}/calls_{next(_numbers)}")


@pytest.fixture
def calls(monkeypatch):
    """Names of the client's methods, in the order of the calls."""
    made = []
    real = Connection.call

    def counted(self, method, *arguments, **options):
        made.append(method)
        return real(self, method, *arguments, **options)

    monkeypatch.setattr(Connection, "call", counted)
    return made


@pytest.fixture
def filled(address):
    with MilvusGallery.create(address, SPEC) as gallery:
        gallery.add(rows(300), vectors(300))
        gallery.finish()
    return address


@pytest.fixture
def queries():
    """Twenty people, four of them with two images."""
    values = vectors(24, seed=5)
    pairs = [Query((f"{index}.jpg", "b.jpg"), values[2 * index : 2 * index + 2]) for index in range(4)]
    return [*pairs, *(Query((f"{index}.jpg",), values[index : index + 1]) for index in range(8, 24))]


@pytest.mark.parametrize(
    "search_filter",
    [SearchFilter(), SearchFilter(cameras=frozenset({"1", "2"}), not_files=frozenset({("local", "b/00001.jpg")}))],
)
def test_twenty_queries_cost_no_more_calls_than_one(filled, queries, calls, search_filter):
    settings = MatchSettings(rows=search_filter)
    with open_store(filled, spec=SPEC) as gallery:
        info = gallery.info()
        results = match_all(gallery, queries, settings)
        made = list(calls)
        alone = [match_all(gallery, [query], settings)[0] for query in queries]
    assert info.rows == 300
    assert len(results) == 20
    assert len(made) <= MOST_CALLS, made
    for one, other in zip(results, alone, strict=True):
        assert [match.path for match in one.matches] == [match.path for match in other.matches]
        np.testing.assert_array_equal([match.score for match in one.matches], [match.score for match in other.matches])


@pytest.mark.parametrize("folder", ["queries", "gallery/mine"])
def test_a_match_of_twenty_query_files(tmp_path, monkeypatch, address, calls, folder):
    """The command line. Queries that are crops of the gallery, and so do not answer, need one more count."""
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "gallery" / "mine", 20)
    save_crops(tmp_path / "gallery" / "others", 5)
    save_crops(tmp_path / "queries", 20)
    model = save_tiny_model(tmp_path / "rrid.onnx")
    assert rrid_edge("index", "gallery", "--model", model, "--gallery", address).code == 0
    calls.clear()
    outcome = rrid_edge("match", folder, "gallery", "--gallery", address, "--json", "--top-k", 4)
    assert outcome.code == 0, outcome
    assert len(json.loads(outcome.out)["results"]) == 20
    assert len(calls) <= MOST_CALLS, calls


def test_a_search_is_one_search_its_counts_and_one_read_of_the_ranked_rows(filled, monkeypatch):
    """Ranked rows are read once: the answer's vectors come with them. Only search and counts wait for consistency."""
    made = []
    real = Connection.call

    def noted(self, method, *arguments, **options):
        answer = real(self, method, *arguments, **options)
        read = [entity["key"] for entity in answer if "vector" in entity] if method == "query" else []
        made.append((method, options["consistency_level"], "vector" in options["output_fields"], len(read)))
        assert len(set(read)) == len(read)
        return answer

    queries = np.repeat(vectors(2, seed=5), 3, axis=0)  # six queries that share their hits
    one_camera = SearchFilter(cameras=frozenset({"1"}))
    with open_store(filled) as gallery:
        monkeypatch.setattr(Connection, "call", noted)
        for search_filter, counts in ((SearchFilter(), 1), (one_camera, 2)):
            made.clear()
            with gallery.moment() as moment:
                found = moment.search(queries, 10, search_filter)
                hits = {hit.row.path: hit.row for one in found.hits for hit in one}
                moment.vectors(list(hits.values()))
            expected = [("query", "Eventually", True, len(hits)), *[("query", "Strong", False, 0)] * counts]
            assert sorted(made) == [*expected, ("search", "Strong", False, 0)]
        assert len(hits) == len({hit.row.path for hit in (*found.hits[0], *found.hits[3])})


@pytest.mark.parametrize("lag", ["missing", "old"])
def test_a_replica_that_lags_behind_is_asked_again(filled, monkeypatch, lag):
    """The read of ranked rows waits for nothing. What it lacks, or has in an older form, is read `Strong`."""
    query = vectors(1)
    with open_store(filled, write=True) as gallery:
        stored = gallery.search(query, 300)
        old = {hit.row.path: hit for hit in stored.hits[0]}
        moved = rows(1)[0]
        gallery.add([moved], vectors(1, seed=9))
        fresh = gallery.search(query, 300)
        real, late = Connection.call, []

        def lagging(self, method, *arguments, **options):
            answer = real(self, method, *arguments, **options)
            if options.get("consistency_level") != "Eventually":
                return answer
            late.append(method)
            if lag == "missing":
                return answer[::2]
            return [
                {**entity, "crc32": entity["crc32"] ^ 1} if entity["path"] == moved.path else entity
                for entity in answer
            ]

        monkeypatch.setattr(Connection, "call", lagging)
        assert gallery.search(query, 300) == fresh
    assert late
    assert {hit.row.path: hit for hit in fresh.hits[0]}[moved.path].score != old[moved.path].score


def test_a_row_that_goes_between_search_and_read_is_left_out(filled, monkeypatch):
    query = vectors(1, seed=5)
    with open_store(filled, write=True) as gallery, open_store(filled, write=True) as other:
        first, second = gallery.search(query, 2).hits[0]
        gone: list[int] = []
        real = Connection.call

        def racing(self, method, *arguments, **options):
            answer = real(self, method, *arguments, **options)
            if method == "search" and not gone:
                gone.append(first.row.id)
                other.remove(gone)
            return answer

        monkeypatch.setattr(Connection, "call", racing)
        found = gallery.search(query, 2)
    assert gone
    assert found.hits[0][0] == second
    assert len(found.hits[0]) == 2


def test_searches_of_several_filters_overlap(filled):
    """Eight queries of four cameras, each without its own: every answer is that of the query alone."""
    people = [
        Query((f"{index}.jpg",), vectors(8, seed=5)[index : index + 1], camera=str(index % 4)) for index in range(8)
    ]
    settings = MatchSettings(exclude_same_camera=True)
    with open_store(filled) as gallery:
        together = match_all(gallery, people, settings)
        assert list(together) == [match_all(gallery, [person], settings)[0] for person in people]


def test_vectors_are_read_in_one_call_each_for_expansion_and_the_answer(filled, queries, calls, monkeypatch):
    with open_store(filled) as gallery:
        calls.clear()
        asked: collections.Counter[int] = collections.Counter()
        real = gallery.vectors

        def counted(wanted):
            paths = [row.path for row in wanted]
            asked[len(paths)] += 1
            assert len(paths) == len(set(paths))
            return real(wanted)

        monkeypatch.setattr(gallery, "vectors", counted)
        match_all(gallery, queries, MatchSettings(5, rerank=25))
        assert asked.total() == 1 + 1  # the answer, and the sample of other people
        match_all(gallery, queries, MatchSettings(5, expand=3))
        assert asked.total() == 2 + 2 + 1
        match_all(gallery, queries, MatchSettings(5, expand=3, rerank=25))
        assert asked.total() == 5 + 2 + 1
        assert set(asked) == {0}  # each answer brought its vectors


def test_undecided_queries_share_the_next_search(address, calls):
    """More equal crops than the first answer holds: all queries share each wider search."""
    with MilvusGallery.create(address, SPEC) as gallery:
        gallery.add(rows(200), np.repeat(vectors(1), 200, axis=0))
        calls.clear()
        found = gallery.search(np.repeat(vectors(1), 20, axis=0), 5)
        searches = calls.count("search")
    assert len({tuple(hit.row.path for hit in hits) for hits in found.hits}) == 1
    assert searches <= 4, calls
