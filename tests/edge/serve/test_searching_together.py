"""Searches that wait are made together: each answer is the one that its query gets alone."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from edge.serve.support import SPEC, crop_files, running, service_on
from rrid_edge.embedding.queries import Query
from rrid_edge.errors import OutputError, UsageError
from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.matching import match_all
from rrid_edge.people.book import PeopleBook
from rrid_edge.serve import searching
from rrid_edge.serve.answering import AskedQuery
from rrid_edge.serve.search_answers import SearchAnswer
from rrid_edge.serve.searching import SearchChoices, search, search_together
from rrid_edge.serve.threads import WorkThreads

SEARCH = "/api/v1/search"
CHOICES = SearchChoices(5, SearchFilter(), AskedScore(None, None, None), rerank=False)
WAIT_S = 20


def queries(count: int) -> list[AskedQuery]:
    vectors = np.random.default_rng(7).standard_normal((count, SPEC.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [AskedQuery(Query((f"{n}.jpg",), vectors[n : n + 1]), keeps=b"jpeg %d" % n) for n in range(count)]


def assert_alike(found, expected):
    """The same matches, and all numbers equal but for rounding."""
    found, expected = found.model_dump(), expected.model_dump()
    for answer in (found, expected):
        del answer["milliseconds"], answer["query"]
    for own, other in zip(found["matches"], expected["matches"], strict=True):
        for block, same in zip(own.pop("blocks"), other.pop("blocks"), strict=True):
            block, same = (vars(one) if hasattr(one, "share") else one for one in (block, same))
            for name in ("share", "usual", "spread"):
                assert block[name] == pytest.approx(same[name], abs=1e-6)
            assert block["contrast"] == pytest.approx(same["contrast"], abs=1e-4)
        assert own.pop("score") == pytest.approx(other.pop("score"), abs=1e-6)
    assert found == expected


def test_queries_together_get_the_answers_that_each_gets_alone(tmp_path):
    with service_on(tmp_path, {"g": 24}) as service:
        served, asked = service.gallery(None), queries(6)
        together = search_together(service, served, asked, CHOICES)
        for number, (one, found) in enumerate(zip(asked, together, strict=True)):
            assert isinstance(found, SearchAnswer)
            assert found.query.id is not None
            assert_alike(found, search(service, served, one, CHOICES))
            kept = served.book.kept_query(found.query.id)
            assert kept is not None
            np.testing.assert_allclose(kept.descriptor, one.query.descriptors[0], atol=1e-7)
            assert kept.thumbnail == b"jpeg %d" % number


def test_what_is_wrong_with_one_query_fails_no_other(tmp_path):
    with service_on(tmp_path, {"g": 12}) as service:
        served, (first, second) = service.gallery(None), queries(2)
        vector = first.query.descriptors
        contrary = AskedQuery(Query(("a", "b"), np.concatenate([vector, -vector])), images=2, keeps=b"jpeg")
        found = search_together(service, served, [first, contrary, second], CHOICES)
        assert isinstance(found[1], UsageError)
        assert "contradict each other" in found[1].message
        assert_alike(found[0], search(service, served, first, CHOICES))
        assert_alike(found[2], search(service, served, second, CHOICES))


def test_a_query_that_cannot_be_kept_is_answered_with_a_warning(tmp_path, monkeypatch):
    def full(*_args):
        raise OutputError("people.sqlite: the people file cannot be written (no space)")

    monkeypatch.setattr(PeopleBook, "keep_queries", full)
    with service_on(tmp_path, {"g": 12}) as service:
        (found,) = search_together(service, service.gallery(None), queries(1), CHOICES)
    assert isinstance(found, SearchAnswer)
    assert found.query.id is None
    assert "the query is not kept: people.sqlite: the people file cannot be written (no space)" in found.warnings
    assert len(found.matches) == 5


def test_searches_that_come_during_another_share_one_call_and_have_their_own_audit_lines(tmp_path, monkeypatch):
    calls, entered, gate = [], threading.Event(), threading.Event()
    real = match_all

    def held(store, asked, settings, sample):
        calls.append(len(asked))
        entered.set()
        assert gate.wait(WAIT_S)
        return real(store, asked, settings, sample)

    with service_on(tmp_path, {"g": 12}) as service, running(service) as address, ThreadPoolExecutor(6) as pool:
        files = crop_files(tmp_path / "g", 5)
        alone = [httpx.post(f"{address}{SEARCH}", files=[file], timeout=WAIT_S).json()["matches"] for file in files]
        (worker,) = service.workers.values()
        monkeypatch.setattr(searching, "match_all", held)

        def ask(number: int, **params):
            headers = {"X-Request-Id": f"asked-{number}"}
            found = httpx.post(
                f"{address}{SEARCH}", files=[files[number]], headers=headers, params=params, timeout=WAIT_S
            )
            return found.json()["matches"]

        first = pool.submit(ask, 0)
        assert entered.wait(WAIT_S)
        others = [pool.submit(ask, number) for number in range(1, 5)]
        (waiting,) = service.threads._together.values()
        while len(waiting) < 4:
            pass
        other = pool.submit(ask, 0, top_k=1)  # other choices are no reason to wait
        while len(calls) < 2:
            pass
        gate.set()
        found = [first.result(), *(one.result() for one in others)]
        assert len(other.result()) == 1
        assert worker.placed == 0
    assert calls == [1, 1, 4]
    assert [[match["id"] for match in one] for one in found] == [[match["id"] for match in one] for one in alone]
    lines = map(json.loads, (tmp_path / "g" / ".rrid-edge" / "audit.jsonl").read_text().splitlines())
    told = {line["request"]: line["ids"] for line in lines if line["request"].startswith("asked-")}
    expected = [[match["id"] for match in one] for one in alone]
    assert [told[f"asked-{number}"] for number in range(1, 5)] == expected[1:]


class Doubling:
    """Doubles items in held calls, refuses negative ones, and notes the calls."""

    def __init__(self):
        self.calls, self.gate, self.entered = [], threading.Event(), threading.Semaphore(0)

    def __call__(self, items):
        self.calls.append([*items])
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if 13 in items:
            raise RuntimeError("no such luck")
        return [ValueError(f"{item} is negative") if item < 0 else 2 * item for item in items]


async def asked_in_turn(threads, double, items, key="k"):
    """Tasks for items, which are asked for while the first call runs."""
    tasks = [asyncio.ensure_future(threads.run_together(key, double, items[0]))]
    await asyncio.to_thread(double.entered.acquire, timeout=WAIT_S)
    tasks += [asyncio.ensure_future(threads.run_together(key, double, item)) for item in items[1:]]
    await asyncio.sleep(0)
    return tasks


def together(items, then):
    double = Doubling()

    async def run():
        tasks = await asked_in_turn(threads, double, items)
        then(tasks)
        await asyncio.sleep(0)
        double.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)

    with WorkThreads(2) as threads:
        found = asyncio.run(run())
        assert not threads._together
    return found, double.calls


def test_items_that_wait_go_into_one_call_in_their_order():
    found, calls = together([1, 2, 3, 4], lambda tasks: None)
    assert (found, calls) == ([2, 4, 6, 8], [[1], [2, 3, 4]])


def test_one_call_takes_a_bounded_number_of_items(monkeypatch):
    monkeypatch.setattr("rrid_edge.serve.threads.MOST_TOGETHER", 2)
    found, calls = together([1, 2, 3, 4], lambda tasks: None)
    assert (found, calls) == ([2, 4, 6, 8], [[1], [2, 3], [4]])


def test_items_whose_callers_went_away_are_dropped():
    found, calls = together([1, 2, 3, 4], lambda tasks: [tasks[number].cancel() for number in (0, 2)])
    assert calls == [[1], [2, 4]]
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False, True, False]
    assert (found[1], found[3]) == (4, 8)


def test_an_item_may_fail_alone_or_the_call_for_all_of_its_items():
    found, _ = together([1, -2, 3], lambda tasks: None)
    assert (found[0], str(found[1]), found[2]) == (2, "-2 is negative", 6)
    found, _ = together([1, 13, 3], lambda tasks: None)
    assert (found[0], str(found[1]), str(found[2])) == (2, "no such luck", "no such luck")


def test_what_waits_at_the_end_of_the_event_loop_ends_too():
    double = Doubling()
    with WorkThreads(2) as threads:
        asyncio.run(asked_in_turn(threads, double, [1, 2, 3]))
        double.gate.set()
        assert not threads._together
        assert asyncio.run(threads.run_together("k", double, 5)) == 10
