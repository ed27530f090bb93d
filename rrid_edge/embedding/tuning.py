"""How fast the stages of embedding are, measured while they work, and the batch and threads chosen from that."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_BATCH = 16
"""Images a call where there are too few files to measure."""
_SIZES = (16, 32, 8, 64, 128)
_TRIES = 3
_WORTH_TRYING = 3
_STARVED = 0.02
_INTERPRETER_S = 0.15e-3
"""For so long does decoding a file hold the interpreter, however large it is: one thread at a time."""
_SPARE_PROCESSES = 2
WORTH_PROCESSES = 4000
"""Files that a thread decodes in a second: starting a process takes a fifth of it."""


@dataclass
class EmbeddingGauge:
    """What embedding some files took; filled while it runs.

    Attributes:
        images: decoded and embedded.
        batch: images a call that were chosen, or given.
        workers: decoding threads, or processes, at the end.
        waited_s: seconds in which the engine had nothing to do because no image was decoded yet.
        computed_s: seconds in the engine.
    """

    images: int = 0
    batch: int = 0
    workers: int = 0
    waited_s: float = 0.0
    computed_s: float = 0.0


class BatchChoice:
    """Images a call of the engine: measured on the first batches of the work itself, so that no image is computed twice.

    Every size is tried three times; the first time does not count, because runtimes prepare for a new shape. Then the
    size of the best rate stays. Answers do not change: an image's descriptor does not depend on its batch.

    Args:
        largest: images that one call of the engine takes.
        files: files to embed; where trying would take more than a third of them, :data:`DEFAULT_BATCH` is taken.
        fixed: a size that somebody asked for, or None.
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
        """Images of the next call."""
        if len(self._sizes) == 1:
            return self._sizes[0]
        untried = next((size for size in self._sizes if len(self._seconds[size]) < _TRIES), None)
        if untried is not None:
            return untried
        return min(self._sizes, key=lambda size: min(self._seconds[size][1:]) / size)

    @property
    def trying(self) -> bool:
        """Whether sizes are still being compared."""
        return any(len(tries) < _TRIES for tries in self._seconds.values())

    def ran(self, images: int, seconds: float) -> None:
        """Record a call; one with fewer images than it was to have says nothing."""
        tries = self._seconds.get(images)
        if tries is not None and len(tries) < _TRIES:
            tries.append(seconds)


class WorkerChoice:
    """How files are decoded: by two threads to begin with, by twice as many whenever the engine had to wait.

    On a CPU engine and decoding share the processors, so workers that are not needed only get in the way; beside a GPU all
    of them are needed. Where threads would wait for the interpreter instead of decoding, processes take their place.

    Args:
        cores: processors that may be used.
        fixed: a number that somebody asked for, or None.
        processes: whether processes can be started.
    """

    def __init__(self, cores: int, fixed: int | None = None, *, processes: bool = False) -> None:
        self._fixed = fixed
        self._most = fixed or max(2, cores)
        self.threads = fixed or 2
        self._processes = processes
        self._first = True

    def starved(self, waited_s: float, computed_s: float) -> bool:
        """Whether the engine had to wait before a batch; its first wait does not count: nothing is decoded before the start."""
        first, self._first = self._first, False
        return not first and waited_s > _STARVED * (waited_s + computed_s)

    def more_threads(self) -> int:
        """Threads to add, with or without a process each."""
        more = min(2 * self.threads, self._most) - self.threads
        self.threads += more
        return more

    def processes(self, decode_s: float, files: int) -> int:
        """Processes that are to decode instead; 0 where threads do as well. Asked for once, they are not offered again.

        As many as were fixed, or to begin with as many as give this process no rest: it holds its interpreter for every file as
        well, to hand it over and to store what comes back.

        Args:
            decode_s: seconds of a processor that a thread needs for a file.
            files: still to be decoded.
        """
        if not self._processes or files < WORTH_PROCESSES or decode_s > self._most * _INTERPRETER_S:
            return 0
        self._processes = False
        self.threads = self._fixed or min(self._most, _SPARE_PROCESSES + math.ceil(decode_s / _INTERPRETER_S))
        return self.threads
