"""Threads for work that would hold up the event loop: SQLite, search, decoding."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from typing_extensions import ParamSpec

from rrid_edge.closable import Closable
from rrid_edge.machine.processor import usable_cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
MOST_TOGETHER: Final = 16
"""Items of one call of :meth:`WorkThreads.run_together`."""
WORK_THREADS: Final = 16
"""Threads that search and read. Most of their time they wait for disks, servers or the writer's lock."""


class WorkThreads(Closable):
    """Two bounded pools of threads. Work that a cancelled caller still waits for is dropped before it begins.

    Decoding has a pool of its own, of one thread per core: a picture of 32 megapixels takes 100 MB while it is decoded.

    Args:
        work: threads that search and read.
        decoding: threads that decode; 0 takes one per core that this process may use.
    """

    def __init__(self, work: int = WORK_THREADS, decoding: int = 0) -> None:
        self._work = ThreadPoolExecutor(work, "work")
        self._decoding = ThreadPoolExecutor(decoding or usable_cores(), "decode")
        self._together: dict[Hashable, deque[tuple[Any, asyncio.Future[Any]]]] = {}
        self._drains: set[asyncio.Task[None]] = set()

    async def run(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """The result of a call in a thread."""
        return await _run(self._work, functools.partial(function, *args, **kwargs))

    async def decode(
        self, function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        """The result of a call that decodes pictures, in a thread."""
        return await _run(self._decoding, functools.partial(function, *args, **kwargs))

    async def run_together(
        self, key: Hashable, function: Callable[[Sequence[_Item]], Sequence[_Result | Exception]], item: _Item
    ) -> _Result:
        """The result for an item of a call in a thread, which is made for all items of a key that wait.

        One call per key runs at a time. None waits for company: items that come during a call are those of the next.

        Args:
            key: of items that one call can take together; ``function`` does the same for all of them.
            function: gives the result of each item, or the exception to raise for it.
            item: of the caller.
        """
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        if key in self._together:
            self._together[key].append((item, future))
        else:
            self._together[key] = deque([(item, future)])
            drain = asyncio.ensure_future(self._drain(key, function))
            self._drains.add(drain)  # the event loop itself holds no task
            drain.add_done_callback(self._drains.discard)
        return await future

    async def _drain(self, key: Hashable, function: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        """Make calls until no item of a key waits."""
        waiting, taken = self._together[key], []
        try:
            while waiting:
                taken = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
                taken = [(item, future) for item, future in taken if not future.done()]
                if taken:
                    await self._call(function, taken)
        finally:
            del self._together[key]
            for _, future in (*taken, *waiting):  # the event loop ends
                future.cancel()

    async def _call(
        self, function: Callable[[Sequence[Any]], Sequence[Any]], taken: Sequence[tuple[Any, asyncio.Future[Any]]]
    ) -> None:
        try:
            results = await _run(self._work, functools.partial(function, [item for item, _ in taken]))
        except Exception as error:
            results = [error] * len(taken)
        for (_, future), result in zip(taken, results, strict=True):
            if future.done():  # its caller went away
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def close(self) -> None:
        """Wait for the calls that run, and drop those that have not begun; safe to call twice."""
        for pool in (self._decoding, self._work):
            pool.shutdown(wait=True, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, call: Callable[[], _Result]) -> _Result:
    context = contextvars.copy_context()  # audit lines name the request
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(call))
