"""Threads for work that would hold up the event loop: SQLite, search, decoding."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from typing_extensions import ParamSpec

from rrid_edge.closable import Closable
from rrid_edge.machine.processor import usable_cores

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")
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

    def close(self) -> None:
        """Wait for the calls that run, and drop those that have not begun; safe to call twice."""
        for pool in (self._decoding, self._work):
            pool.shutdown(wait=True, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, call: Callable[[], _Result]) -> _Result:
    context = contextvars.copy_context()  # audit lines name the request
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(call))
