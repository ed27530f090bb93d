"""Tests of the engine's worker: batches, order, limits, callers that go away, errors."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from edge.serve.support import SPEC
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import ClosedError, GpuFaultError, ModelFileError, UsageError
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.worker import EngineWorker

FOREVER_S = 10


class HeldEngine(FakeEngine):
    """Notes the images of every call, and holds calls until it is let go."""

    def __init__(self, max_batch: int = 8) -> None:
        super().__init__(SPEC, max_batch=max_batch)
        self.calls: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.failure: Exception | None = None

    def run(self, images):
        self.calls.append([int(image[0, 0, 0]) for image in images])
        self.entered.release()
        assert self.gate.wait(FOREVER_S)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return super().run(images)


def images(*marks: int) -> np.ndarray:
    """Images that differ; the first value of each is its mark."""
    found = np.random.default_rng(marks[0]).integers(
        0, 256, (len(marks), SPEC.height_px, SPEC.width_px, 3), dtype=np.uint8
    )
    found[:, 0, 0, 0] = marks
    return found


@contextlib.contextmanager
def worker_on(engine, queue=64):
    with EngineWorker(lambda: engine, SPEC, queue, Metrics()) as worker:
        worker.wait_until_open(FOREVER_S)
        try:
            yield worker
        finally:
            engine.gate.set()


async def first_runs(worker, engine, mark=1):
    """A request that the engine holds."""
    first = asyncio.ensure_future(worker.embed(images(mark)))
    await asyncio.to_thread(engine.entered.acquire, timeout=FOREVER_S)
    return first


def test_requests_that_wait_are_taken_together_in_their_order():
    engine = HeldEngine()

    async def ask():
        first = await first_runs(worker, engine)
        others = [asyncio.ensure_future(worker.embed(images(*marks))) for marks in ((2, 3), (4,), (5, 6, 7))]
        await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(first, *others)

    with worker_on(engine) as worker:
        found = asyncio.run(ask())
    assert engine.calls == [[1], [2, 3, 4, 5, 6, 7]]
    with FakeEngine(SPEC) as alone:
        for marks, descriptors in zip(((1,), (2, 3), (4,), (5, 6, 7)), found, strict=True):
            np.testing.assert_array_equal(descriptors, alone.run(images(*marks)))


def test_a_call_takes_as_many_images_as_the_engine_does_and_nobody_overtakes():
    engine = HeldEngine(max_batch=4)

    async def ask():
        first = await first_runs(worker, engine)
        marks = ((2, 3), (4, 5, 6), (7,), (8,))
        others = [asyncio.ensure_future(worker.embed(images(*own))) for own in marks]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *others)

    with worker_on(engine) as worker:
        asyncio.run(ask())
    assert engine.calls == [[1], [2, 3], [4, 5, 6, 7], [8]]


def test_nobody_waits_for_company():
    engine = HeldEngine()
    engine.gate.set()

    async def ask():
        for mark in range(1, 4):
            await asyncio.wait_for(worker.embed(images(mark)), FOREVER_S)

    with worker_on(engine) as worker:
        asyncio.run(ask())
    assert engine.calls == [[1], [2], [3]]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again():
    engine = HeldEngine()

    async def ask():
        first = await first_runs(worker, engine)
        second = asyncio.ensure_future(worker.embed(images(2, 3)))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="3 images wait for the engine, and at most 3 may") as caught:
            await worker.embed(images(4))
        assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
        engine.gate.set()
        await asyncio.gather(first, second)
        await worker.embed(images(5))  # the places are free again

    with worker_on(engine, queue=3) as worker:
        asyncio.run(ask())
        assert worker.placed == 0
    assert engine.calls == [[1], [2, 3], [5]]


def test_a_request_larger_than_the_queue_is_taken_if_nobody_waits():
    engine = HeldEngine()
    engine.gate.set()
    with worker_on(engine, queue=2) as worker:
        assert asyncio.run(worker.embed(images(1, 2, 3))).shape == (3, SPEC.dimension)


def test_images_of_callers_that_went_away_are_not_computed():
    engine = HeldEngine()

    async def ask():
        first = await first_runs(worker, engine)
        gone = [asyncio.ensure_future(worker.embed(images(mark))) for mark in (2, 3)]
        stays = asyncio.ensure_future(worker.embed(images(4)))
        await asyncio.sleep(0)
        for one in gone:
            one.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert worker.placed == 2
        engine.gate.set()
        await asyncio.gather(first, stays)

    with worker_on(engine) as worker:
        asyncio.run(ask())
    assert engine.calls == [[1], [4]]


def test_a_caller_that_goes_away_while_it_is_computed_harms_nobody():
    engine = HeldEngine()

    async def ask():
        first = await first_runs(worker, engine)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        engine.gate.set()
        return await worker.embed(images(2))

    with worker_on(engine) as worker:
        assert asyncio.run(ask()).shape == (1, SPEC.dimension)
        assert worker.placed == 0


def test_an_error_of_the_engine_goes_to_those_it_concerns():
    engine = HeldEngine()
    engine.failure = GpuFaultError("the GPU fell off")

    async def ask():
        first = await first_runs(worker, engine)
        second = asyncio.ensure_future(worker.embed(images(2)))
        await asyncio.sleep(0)
        engine.gate.set()
        with pytest.raises(GpuFaultError, match="fell off"):
            await first
        return await second

    with worker_on(engine) as worker:
        assert asyncio.run(ask()).shape == (1, SPEC.dimension)


def test_images_of_another_size_are_refused_before_they_wait():
    engine = HeldEngine()
    with worker_on(engine) as worker, pytest.raises(UsageError, match="do not fit this model"):
        asyncio.run(worker.embed(np.zeros((1, 8, 8, 3), np.uint8)))
    assert engine.calls == []


def test_an_engine_that_cannot_be_opened_is_told_in_its_own_line():
    held = threading.Event()

    def open_engine():
        assert held.wait(FOREVER_S)
        raise ModelFileError("rrid.onnx: damaged; export it again")

    async def ask():
        waiting = asyncio.ensure_future(worker.embed(images(1)))
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(RequestError, match="damaged; export it again") as caught:
            await waiting
        assert caught.value.status == 503
        with pytest.raises(RequestError, match="damaged"):
            await worker.embed(images(2))

    with EngineWorker(open_engine, SPEC, 8, Metrics()) as worker:
        asyncio.run(ask())
        with pytest.raises(ModelFileError):
            worker.wait_until_open(FOREVER_S)
        assert not worker.is_ready
        assert worker.placed == 0


def test_closing_finishes_what_waits_and_refuses_the_rest():
    engine = HeldEngine()

    async def ask():
        first = await first_runs(worker, engine)
        second = asyncio.ensure_future(worker.embed(images(2)))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(worker.close))
        engine.gate.set()
        found = await asyncio.gather(first, second, closing)
        with pytest.raises(ClosedError):
            await worker.embed(images(3))
        return found

    with worker_on(engine) as worker:
        found = asyncio.run(ask())
    assert found[1].shape == (1, SPEC.dimension)
    worker.close()
    with pytest.raises(ClosedError):
        FakeEngine.run(engine, images(4))
