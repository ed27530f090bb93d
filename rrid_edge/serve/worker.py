"""One thread per model: it takes the images that wait, as many as the engine takes in one call."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.engines.base import Engine, check_images
from rrid_edge.errors import ClosedError, RridEdgeError, UnexpectedError, unforeseen
from rrid_edge.model.spec import ModelSpec
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.metrics import Metrics

_RETRY_S: Final = 1
_CLOSE_S: Final = 2.0
"""Seconds that closing waits for the engine. Opening one can take a minute."""
_PASSED_OVER: Final = 8
"""Calls of the engine for requests, after which images that can wait have their turn."""


@dataclass(frozen=True)
class Computed:
    """What the engine answered to one request.

    Attributes:
        descriptors: float32 (N, D), rows of unit length.
        waited_s: seconds until the engine took the images.
        computed_s: seconds of the engine's call, which may have had images of other requests.
    """

    descriptors: NDArray[np.float32]
    waited_s: float
    computed_s: float


@dataclass(frozen=True)
class _Request:
    """Images that wait: uint8 (N, height, width, 3). The caller cancels ``answer`` if it goes away."""

    images: NDArray[np.uint8]
    since_s: float
    answer: Future[Computed] = field(default_factory=Future)


class EngineWorker(Closable):
    """Computes descriptors for everyone who asks, in the order of asking.

    Requests that wait are taken together, up to ``engine.max_batch`` images per call. None waits for company. A request
    whose caller went away is dropped before it is computed.

    Args:
        open_engine: opens the engine, in the worker's thread.
        spec: of the model.
        queue: images that may be on their way to the engine.
        metrics: counts the engine's calls.

    Attributes:
        spec: as given.
        queue: as given.
        engine: the open engine; None until it is open.
        failure: why the engine could not be opened, or None.
    """

    def __init__(self, open_engine: Callable[[], Engine], spec: ModelSpec, queue: int, metrics: Metrics) -> None:
        self.spec, self.queue = spec, queue
        self.engine: Engine | None = None
        self.failure: RridEdgeError | None = None
        self._metrics = metrics
        self._wakes = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._behind: deque[_Request] = deque()
        self._placed = self._passed_over = 0
        self._closed = False
        self._opened = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(open_engine,), name=f"engine-{spec.fingerprint[:8]}", daemon=True
        )
        self._thread.start()

    @property
    def placed(self) -> int:
        """Images that have a place: they are decoded, wait, or are computed now."""
        return self._placed

    @property
    def is_ready(self) -> bool:
        """Whether the engine is open."""
        return self.engine is not None

    def wait_until_open(self, timeout_s: float | None = None) -> None:
        """Wait until the engine is open.

        Raises:
            RridEdgeError: it could not be opened.
        """
        self._opened.wait(timeout_s)
        if self.failure is not None:
            raise self.failure

    def refuse_full(self) -> None:
        """Refuse a request whose images would find no place, before its body is read.

        Raises:
            RequestError: 429 if the queue is full, 503 if the engine cannot be opened.
        """
        self._refuse_unusable()
        with self._wakes:
            self._refuse_full(1)

    @contextlib.contextmanager
    def place(self, images: int) -> Iterator[None]:
        """Hold a place in the queue for some images, before they are decoded.

        Raises:
            RequestError: 429 if the queue is full, 503 if the engine cannot be opened.
        """
        self._refuse_unusable()
        with self._wakes:
            self._refuse_full(images)
            self._placed += images
        try:
            yield
        finally:
            with self._wakes:
                self._placed -= images

    async def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of images, float32 (N, D), rows of unit length.

        Args:
            images: uint8 (N, height, width, 3), RGB.

        Raises:
            RequestError: 429 if the queue is full, 503 if the engine cannot be opened.
            UsageError: wrong dtype or shape.
        """
        with self.place(len(images)):
            return (await self.run(images)).descriptors

    async def run(self, images: NDArray[np.uint8]) -> Computed:
        """What the engine answers to images for which the caller holds a :meth:`place`.

        Args:
            images: uint8 (N, height, width, 3), RGB.

        Raises:
            RequestError: 503 if the engine cannot be opened.
            UsageError: wrong dtype or shape.
        """
        check_images(images, self.spec)
        request = _Request(images, time.perf_counter())
        with self._wakes:
            self._refuse_unusable()
            self._waiting.append(request)
            self._wakes.notify()
        return await asyncio.wrap_future(request.answer)

    def run_behind(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors of images that can wait, float32 (N, D): requests go first. Waits in the caller's thread.

        Under steady requests they have every ninth call, so that they are not put off for ever.

        Args:
            images: uint8 (N, height, width, 3), RGB; N at most ``engine.max_batch``, few so that requests wait briefly.

        Raises:
            RequestError: 503 if the engine cannot be opened.
            ClosedError: the worker is closed.
            UsageError: wrong dtype or shape.
        """
        check_images(images, self.spec)
        request = _Request(images, time.perf_counter())
        with self._wakes:
            self._refuse_unusable()
            self._behind.append(request)
            self._wakes.notify()
        return request.answer.result().descriptors

    def close(self) -> None:
        """Compute what waits, then close the engine; safe to call twice.

        An engine that is still opened, or takes long, is left to the end of the process.
        """
        with self._wakes:
            self._closed = True
            self._wakes.notify()
        self._thread.join(_CLOSE_S)

    def _refuse_full(self, images: int) -> None:
        if self._placed and self._placed + images > self.queue:
            raise RequestError(
                f"{self._placed} images wait for the engine, and at most {self.queue} may: try again later",
                status=429,
                retry_after_s=_RETRY_S,
            )

    def _refuse_unusable(self) -> None:
        if self.failure is not None:
            raise RequestError(self.failure.message, status=503) from self.failure
        if self._closed:
            raise ClosedError("the engine of the service")

    def _work(self, open_engine: Callable[[], Engine]) -> None:
        try:
            self.engine = open_engine()
        except RridEdgeError as error:
            self.failure = error
        except BaseException as error:
            self.failure = UnexpectedError(f"the engine cannot be opened ({unforeseen(error)})")
        finally:
            self._opened.set()
        if self.engine is None:
            self._drop_all()
            return
        with self.engine:
            while batch := self._next():
                self._compute(self.engine, batch)

    def _next(self) -> list[_Request]:
        """The requests of the next call; empty when the worker is closed and nothing waits."""
        with self._wakes:
            while True:
                batch = self._one_behind() if self._passed_over >= _PASSED_OVER else []
                if not batch:
                    batch = self._taken() or self._one_behind()
                    self._passed_over += bool(self._behind)
                if batch or self._closed:
                    return batch
                self._wakes.wait()

    def _taken(self) -> list[_Request]:
        """The requests that wait, as many as the engine takes in one call."""
        assert self.engine is not None
        batch: list[_Request] = []
        room = self.engine.max_batch
        while self._waiting and (not batch or len(self._waiting[0].images) <= room):
            request = self._waiting.popleft()
            if request.answer.set_running_or_notify_cancel():
                batch.append(request)
                room -= len(request.images)
        return batch

    def _one_behind(self) -> list[_Request]:
        """Images that can wait, if there are some."""
        if not self._behind:
            return []
        self._passed_over = 0
        return [self._behind.popleft()]

    def _compute(self, engine: Engine, batch: list[_Request]) -> None:
        start = time.perf_counter()
        try:
            images = batch[0].images if len(batch) == 1 else np.concatenate([request.images for request in batch])
            descriptors = engine.run(images)
        except BaseException as error:
            for request in batch:
                request.answer.set_exception(error)
            return
        seconds = time.perf_counter() - start
        self._metrics.batch(self.spec.fingerprint, len(images), seconds)
        done = 0
        for request in batch:
            own, waited = descriptors[done : done + len(request.images)], start - request.since_s
            done += len(request.images)
            self._metrics.waited(self.spec.fingerprint, waited)
            request.answer.set_result(Computed(own, waited, seconds))

    def _drop_all(self) -> None:
        assert self.failure is not None
        with self._wakes:
            waiting = [*self._waiting, *self._behind]
            self._waiting.clear()
            self._behind.clear()
        for request in waiting:
            if request.answer.set_running_or_notify_cancel():
                request.answer.set_exception(RequestError(self.failure.message, status=503))
