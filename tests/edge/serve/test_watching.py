"""Galleries that the service keeps in step with their folders, behind the requests."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from edge.serve.support import SPEC, client, make_gallery, service_on
from rrid_edge.engines.base import BatchEngine
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import ClosedError, MissingDependencyError, UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import create_store
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from rrid_edge.serve.watching import SharedEngine, _Progress
from rrid_edge.serve.worker import EngineWorker
from support.galleries import vectors
from support.pictures import noise, save_crops


def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class SlowEngine(BatchEngine):
    """Notes the mean value of the first image of each call, and waits for a permit before it answers."""

    def __init__(self, max_batch=8):
        super().__init__(SPEC, "slow", max_batch)
        self.calls, self.permits = [], threading.Semaphore(0)
        self._fake = FakeEngine(SPEC)

    def _run_batch(self, images):
        self.calls.append((int(images[0].flat[0]), len(images)))
        self.permits.acquire()
        return self._fake.run(images)


def images(count, value):
    return np.full((count, SPEC.height_px, SPEC.width_px, 3), value, np.uint8)


@pytest.fixture
def worked():
    """A worker, and its slow engine."""
    engine = SlowEngine()
    with EngineWorker(lambda: engine, SPEC, 100, Metrics()) as worker:
        worker.wait_until_open(10)
        yield worker, engine
        for _ in range(1_000):
            engine.permits.release()


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_requests_go_before_indexing(worked):
    worker, engine = worked
    indexing = in_thread(SharedEngine(worker).run, images(12, 100))
    until(lambda: len(engine.calls) == 1)
    requests = [in_thread(lambda n=n: asyncio.run(worker.embed(images(6, n)))) for n in (1, 2)]
    until(lambda: worker.placed == 12)
    for _ in range(5):
        engine.permits.release()
    for thread in (indexing, *requests):
        thread.join(10)
    order = [value for value, _ in engine.calls]
    assert order[0] == 100
    assert sorted(order[1:3]) == [1, 2]  # both wait for the call that runs, and for no other
    assert order[3:] == [100, 100]
    assert [count for value, count in engine.calls if value == 100] == [4, 4, 4]


def test_steady_requests_do_not_stop_indexing(worked):
    worker, engine = worked
    first = in_thread(lambda: asyncio.run(worker.embed(images(1, 0))))
    until(lambda: len(engine.calls) == 1)
    indexing = in_thread(SharedEngine(worker).run, images(4, 100))
    requests = [in_thread(lambda n=n: asyncio.run(worker.embed(images(8, n)))) for n in range(1, 10)]
    until(lambda: worker.placed == 73 and len(worker._behind) == 1)
    for _ in range(11):
        engine.permits.release()
    for thread in (first, indexing, *requests):
        thread.join(10)
    assert [value for value, _ in engine.calls].index(100) == 9


def test_indexing_behind_requests_gives_what_the_engine_gives():
    with EngineWorker(lambda: FakeEngine(SPEC, max_batch=3), SPEC, 8, Metrics()) as worker:
        worker.wait_until_open(10)
        pictures = np.random.default_rng(0).integers(0, 256, (10, SPEC.height_px, SPEC.width_px, 3), np.uint8)
        shared = SharedEngine(worker)
        np.testing.assert_array_equal(shared.run(pictures), FakeEngine(SPEC).run(pictures))
        assert shared.run(pictures[:0]).shape == (0, SPEC.dimension)
        with pytest.raises(UsageError, match="do not fit this model"):
            shared.run(pictures[:, :5])
    with pytest.raises(ClosedError):
        shared.run(pictures)


def test_a_file_that_lands_in_a_followed_folder_is_shown(tmp_path, monkeypatch):
    folder = make_gallery(tmp_path / "gallery", 6)
    with service_on(tmp_path, {"gallery": 6}, watch=True) as service, client(service) as asked:
        events: list[Any] = []
        monkeypatch.setattr(service.events, "publish", lambda kind, gallery, data: events.append((kind, data)))
        service.followers["gallery"].wait_until_looked()
        noise(50).save(folder / "0007_c3s1_000001_00.jpg")
        until(lambda: any(kind == "crop-added" for kind, _ in events))
        (added,) = (data["ids"] for kind, data in events if kind == "crop-added")
        shown = asked.get(f"/api/v1/crops/{added[0]}").json()
        assert (shown["path"], shown["camera"], shown["told"]) == ("0007_c3s1_000001_00.jpg", "3", "0007")
        assert asked.get(f"/api/v1/crops/{added[0]}/image", params={"size": "full"}).status_code == 200
        until(lambda: ("index-progress", {"done": 1, "total": 1}) in events)
        (folder / "0007_c3s1_000001_00.jpg").unlink()
        until(lambda: ("crop-forgotten", {"ids": added}) in events)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("watch", "follow"))]


def test_requests_write_while_a_large_folder_is_indexed(tmp_path):
    folder = make_gallery(tmp_path / "gallery", 1)
    engine = SlowEngine()
    with service_on(tmp_path, engine=engine, watch=True) as service:
        gallery = service.gallery(None)
        save_crops(folder, 60)
        until(lambda: engine.calls)
        writing = in_thread(_add_one, gallery)
        until(lambda: gallery.is_wanted)
        while writing.is_alive():
            engine.permits.release()
            time.sleep(0.01)
        assert any(row.camera == "pushed" for row in gallery.store.rows())
        assert gallery.store.info().rows < 61  # indexing goes on afterwards
        engine.permits.release(1_000)
        until(lambda: gallery.store.info().rows == 61)


def _add_one(gallery):
    with gallery.writing() as store:
        store.add([NewRow(None, camera="pushed")], vectors(1))


def test_a_folder_that_goes_away_ends_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rrid_edge.serve.watching._AGAIN_S", 0.05)
    folder = make_gallery(tmp_path / "gallery", 2)
    with caplog.at_level(logging.INFO, "rrid_edge.serve"), service_on(tmp_path, watch=True) as service:
        (folder / "broken.jpg").write_bytes(b"no picture")
        until(lambda: any("broken.jpg" in record.message for record in caplog.records))
        noise(51).save(folder / "0008_c1s1_000001_00.jpg")
        until(lambda: service.gallery(None).store.info().rows == 3)
        until(lambda: any("(1 added" in record.message for record in caplog.records))


def test_what_cannot_be_followed_is_refused_at_once(tmp_path, monkeypatch):
    with create_store(tmp_path / "index", SPEC):
        pass
    make_gallery(tmp_path / "gallery", 1)
    with pytest.raises(UsageError, match="index: this gallery has no folder of crops"):
        _serve(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(MissingDependencyError, match=r"rrid-edge\[watch\]"):
        _serve(tmp_path / "gallery")


def _serve(location):
    from edge.serve.support import FakeModels

    with Service(ServeSettings((str(location),), watch=True), FakeModels()):
        pass


def test_progress_is_published_twice_a_second_at_most(monkeypatch):
    class Events:
        published: list[dict] = []  # noqa: RUF012

        def publish(self, kind, gallery, data):
            assert (kind, gallery) == ("index-progress", "g")
            self.published.append(data)

    now = [0.0]
    monkeypatch.setattr("rrid_edge.serve.watching.time.monotonic", lambda: now[0])
    progress = _Progress(Events(), "g")  # type: ignore[arg-type]
    progress.start(10)
    for second in (0.1, 0.4, 0.6, 0.7, 1.2):
        now[0] = second
        progress.advance(2)
    progress.end()
    assert [data["done"] for data in Events.published] == [6, 10, 10]
    progress.start(0)
    progress.end()
    assert len(Events.published) == 3
