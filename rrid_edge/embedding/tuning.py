"""Batch size and number of workers for embedding, chosen from timings of the running work."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_BATCH = 16
"""Images per call where there are too few files to measure."""
_SIZES = (16, 32, 8, 64, 128)
_TRIES = 3
_WORTH_TRYING = 3
_STARVED = 0.02
_GIL_S_PER_FILE = 0.15e-3
"""Seconds that decoding one file holds the GIL, for any size."""
_SPARE_PROCESSES = 2
MIN_FILES_FOR_PROCESSES = 4000
"""With fewer files left, starting a process (0.2 s) does not pay: one thread decodes 4000 files per second."""


@dataclass
class EmbeddingStats:
    """Settings and timings of one embedding run; updated while it runs.

    Attributes:
        images: number of embedded images.
        batch: images per call, chosen or given.
        workers: decoding threads or processes.
        waited_s: seconds that the engine waited for decoded images.
        computed_s: seconds in the engine.
    """

    images: int = 0
    batch: int = 0
    workers: int = 0
    waited_s: float = 0.0
    computed_s: float = 0.0

    def record(self, images: int, waited_s: float, computed_s: float) -> None:
        """Add one batch."""
        self.images += images
        self.waited_s += waited_s
        self.computed_s += computed_s


class BatchSizeTuner:
    """Chooses the images per call of the engine by timing the first batches of the work itself.

    Each size runs three times. The first run does not count, because runtimes prepare for a new shape. Then the size of
    the highest throughput stays. Descriptors do not depend on the batch size.

    Args:
        largest: largest batch of the engine.
        files: number of files; if measuring would take more than a third of them, :data:`DEFAULT_BATCH` is used.
        fixed: a size given by the caller, or None.
    """

    def __init__(self, largest: int, files: int, fixed: int | None = None) -> None:
        sizes = [size for size in _SIZES if size <= largest] or [largest]
        if fixed is not None or files < _WORTH_TRYING * _TRIES * sum(sizes):
            sizes = [min(fixed or DEFAULT_BATCH, largest)]
        self._sizes = sizes
        self._seconds: dict[int, list[float]] = {size: [] for size in sizes}
        self.largest = max(sizes)

    @property
    def size(self) -> int:
        """Number of images for the next call."""
        if len(self._sizes) == 1:
            return self._sizes[0]
        untried = next((size for size in self._sizes if len(self._seconds[size]) < _TRIES), None)
        if untried is not None:
            return untried
        return min(self._sizes, key=lambda size: min(self._seconds[size][1:]) / size)

    @property
    def trying(self) -> bool:
        """Whether sizes are still being measured."""
        return any(len(tries) < _TRIES for tries in self._seconds.values())

    def record(self, images: int, seconds: float) -> None:
        """Record the time of one call. Calls of a size that is not measured are ignored."""
        tries = self._seconds.get(images)
        if tries is not None and len(tries) < _TRIES:
            tries.append(seconds)


class WorkerTuner:
    """Chooses the number of decoding workers: two threads at first, twice as many each time the engine had to wait.

    A CPU engine shares the cores with decoding, so surplus workers slow it down. A GPU engine needs them all. Processes
    replace threads where the GIL would limit decoding.

    Args:
        cores: usable CPU cores.
        fixed: a number given by the caller, or None.
        processes: whether processes can be started.
    """

    def __init__(self, cores: int, fixed: int | None = None, *, processes: bool = False) -> None:
        self._fixed = fixed
        self._most = fixed or max(2, cores)
        self.threads = fixed or 2
        self._processes = processes
        self._first = True

    def starved(self, waited_s: float, computed_s: float) -> bool:
        """Whether the engine waited too long for a batch. The first wait never counts: nothing is decoded yet."""
        first, self._first = self._first, False
        return not first and waited_s > _STARVED * (waited_s + computed_s)

    def more_threads(self) -> int:
        """Number of threads to add, each with or without a process."""
        more = min(2 * self.threads, self._most) - self.threads
        self.threads += more
        return more

    def processes(self, decode_s: float, files: int) -> int:
        """Number of processes that should replace the threads; 0 where threads suffice, and after the first answer.

        Args:
            decode_s: CPU seconds per file in a thread.
            files: number of files left.
        """
        if not self._processes or files < MIN_FILES_FOR_PROCESSES or decode_s > self._most * _GIL_S_PER_FILE:
            return 0
        self._processes = False
        # This process holds its GIL for each file too, to send it and to store the pixels: more processes would idle.
        self.threads = self._fixed or min(self._most, _SPARE_PROCESSES + math.ceil(decode_s / _GIL_S_PER_FILE))
        return self.threads
