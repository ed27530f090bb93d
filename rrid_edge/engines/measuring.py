"""Measure once which CPU runtime computes a float32 model faster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from rrid_edge.engines.base import Engine
from rrid_edge.engines.opening import choose_runtime, open_engine
from rrid_edge.engines.runtime_choice import RuntimeChoice
from rrid_edge.engines.speeds import RuntimeSpeeds
from rrid_edge.errors import RridEdgeError
from rrid_edge.progress import step

MEASURED: Final = ("onnxruntime", "openvino")
"""The runtimes that are measured."""
LONGEST_S: Final = 3.0
"""Seconds from which on no further turn of calls begins. The first turn is always finished."""
MOST_TURNS: Final = 7


@step("measuring which runtime is faster")
def measure_runtimes(path: str | Path, *, threads: int = 0) -> RuntimeChoice:
    """Measure which CPU runtime computes a float32 model faster, and record it for ``auto``.

    It takes about five seconds at most, unless one image takes more than half a second. It does nothing where ``auto``
    needs no measurement: a GPU, a processor with bfloat16, one runtime only, another precision, a record that exists.
    Nor does it where nothing is kept: ``RRID_EDGE_CACHE=off``, a cache folder that cannot be written, a model below 8
    MiB or written seconds ago.

    Args:
        path: an ONNX file.
        threads: CPU threads, as they will be used; 0 lets the runtimes choose.

    Returns:
        What ``auto`` chooses now. If an engine cannot be opened, it is the choice without measuring.

    Raises:
        UsageError: no such file.
    """
    path = Path(path)
    choice = choose_runtime(path, threads=threads)
    if not choice.is_unmeasured:
        return choice
    try:
        speeds = measure_speeds({name: partial(open_engine, path, name, threads=threads) for name in MEASURED})
    except RridEdgeError:  # opening the file says what is wrong with it
        return choice
    return choice.decided_by(speeds, path, threads)


def measure_speeds(
    engines: Mapping[str, Callable[[], Engine]], clock: Callable[[], float] = time.perf_counter
) -> RuntimeSpeeds:
    """Measure one image per call on both runtimes, in turns.

    Args:
        engines: opens the engine of each of :data:`MEASURED`.
        clock: time in seconds.

    Raises:
        RridEdgeError: an engine cannot be opened or does not run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in MEASURED}
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(engines[name]()) for name in MEASURED}
        begun = clock()
        for turn in range(1 + MOST_TURNS):
            for name, engine in opened.items():
                image = np.zeros((1, engine.spec.height_px, engine.spec.width_px, 3), np.uint8)
                start = clock()
                engine.run(image)
                if turn:  # the first call of each allocates its memory
                    seconds[name].append(clock() - start)
            if turn and clock() - begun >= LONGEST_S:
                break
    return RuntimeSpeeds(*(1000 * float(np.median(seconds[name])) for name in MEASURED))
