"""Process-wide settings before a command: a faster cold start, and threads within this process's share of cores."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

_STARTED_OFTEN = frozenset({"index", "match"})
_SERVES = "serve"
_SEARCH_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""OpenBLAS's threads spin for 20 ms after a product. On two cores the next image took the engine twice as long."""
"""Other commands import packages that report uncollected objects as leaks at exit."""
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_NEVER_NEEDED = "openvino.tools.ovc"
"""OpenVINO's model converter imports telemetry and an HTTP client. OpenVINO runs without it."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""NumPy's and PyTorch's libraries read them once, when they are loaded. Without them they ignore cgroup quotas."""


def keep_to_share() -> None:
    """Let numerical libraries start no more threads than this process may use cores. What the user set stays."""
    from rrid_edge.machine.processor import threads_for

    if threads := threads_for(0):
        for variable in _THREAD_VARIABLES:
            os.environ.setdefault(variable, str(threads))


def command_in(arguments: Sequence[str]) -> str:
    """The command in ``arguments``; empty if there is none."""
    return next((item for item in arguments if not item.startswith("-")), "")


@contextlib.contextmanager
def quick_start(command: str) -> Iterator[None]:
    """Context to import and run ``command`` in. It saves a quarter of the cold start of ``index`` and ``match``.

    The garbage collector runs less often during imports, and not at exit. `serve` computes searches in one thread each.
    Other commands are not affected.
    """
    if command in (*_STARTED_OFTEN, _SERVES):
        sys.modules.setdefault(_NEVER_NEEDED, None)  # type: ignore[arg-type]  # None makes an import of it fail
    if command == _SERVES:
        for variable in _SEARCH_VARIABLES:
            os.environ.setdefault(variable, "1")
    if command not in _STARTED_OFTEN:
        yield
        return
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    try:
        yield
    finally:
        gc.freeze()


def meanwhile(prepare: Callable[[], object]) -> None:
    """Call ``prepare`` in a thread, while the caller waits for work outside of Python. Its errors are dropped.

    Only for what the caller does itself where it is not done yet, such as imports.
    """

    def attempt() -> None:
        with contextlib.suppress(Exception):
            prepare()

    threading.Thread(target=attempt, name="prepare").start()
