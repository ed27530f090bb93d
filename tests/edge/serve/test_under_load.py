"""Requests that wait for the engine: a full queue, clients that go away, the deadline."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import httpx
import pytest

from edge.serve.support import SPEC, crop_files, problem, running, service_on
from rrid_edge.engines.fake import FakeEngine

EMBED = "/api/v1/embed"


class HeldEngine(FakeEngine):
    """Holds its calls until it is let go, and counts the images of each."""

    def __init__(self):
        super().__init__(SPEC)
        self.calls, self.gate, self.entered = [], threading.Event(), threading.Event()

    def run(self, images):
        self.calls.append(len(images))
        self.entered.set()
        assert self.gate.wait(20)
        return super().run(images)


@contextlib.contextmanager
def held(tmp_path, **settings):
    """A served gallery whose engine holds the images of a first request."""
    engine = HeldEngine()
    with service_on(tmp_path, {"g": 8}, engine=engine, **settings) as service, running(service) as address:
        first = Asking(address, crop_files(tmp_path / "g"))
        assert engine.entered.wait(10)
        try:
            yield engine, service, address, first
        finally:
            engine.gate.set()
            first.join(20)


class Asking(threading.Thread):
    """Embeds files, and keeps the answer."""

    def __init__(self, address, files):
        super().__init__()
        self.answer: Any = None
        self._address, self._files = address, files
        self.start()

    def run(self):
        self.answer = httpx.post(f"{self._address}{EMBED}", files=self._files, timeout=30)


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def placed(service):
    return sum(worker.placed for worker in service.workers.values())


def test_a_full_queue_is_answered_with_429(tmp_path):
    with held(tmp_path, queue=3) as (engine, service, address, first):
        second = Asking(address, crop_files(tmp_path / "g", 2))
        until(lambda: placed(service) == 3)
        refused = httpx.post(f"{address}{EMBED}", files=crop_files(tmp_path / "g"))
        problem(refused, 429, "3 images wait for the engine")
        assert refused.headers["retry-after"] == "1"
        engine.gate.set()
        second.join(20)
        assert second.answer.status_code == 200
    assert first.answer.status_code == 200
    assert engine.calls == [1, 2]


def test_the_images_of_a_client_that_went_away_are_not_computed(tmp_path):
    with held(tmp_path) as (engine, service, address, first):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}{EMBED}", files=crop_files(tmp_path / "g", 5), timeout=0.5)
        until(lambda: placed(service) == 1)  # its places are free
        third = Asking(address, crop_files(tmp_path / "g", 2))
        until(lambda: placed(service) == 3)
        engine.gate.set()
        third.join(20)
        assert third.answer.status_code == 200
    assert first.answer.status_code == 200
    assert engine.calls == [1, 2]


def test_what_waits_beyond_the_deadline_is_answered_with_504_and_dropped(tmp_path):
    with held(tmp_path, deadline_s=1.0) as (engine, service, address, first):
        problem(httpx.post(f"{address}{EMBED}", files=crop_files(tmp_path / "g", 3), timeout=20), 504)
        until(lambda: placed(service) <= 1)
        engine.gate.set()
        first.join(20)
    problem(first.answer, 504)
    assert engine.calls == [1]


@pytest.mark.parametrize("route", ["search", "embed", "crops"])
def test_a_full_queue_refuses_before_it_reads_the_form(tmp_path, route):
    with held(tmp_path, queue=1) as (_engine, _service, address, _first):
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = httpx.post(f"{address}/api/v1/{route}", content=b"no form at all", headers=form)
        problem(answer, 429, "1 images wait for the engine")
        assert answer.headers["retry-after"] == "1"
