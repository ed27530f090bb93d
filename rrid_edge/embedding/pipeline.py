"""Files to descriptors: threads read and decode ahead of the engine, memory is bounded, slow files hold nobody up."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import read_image_bytes
from rrid_edge.embedding.process import DecodingProcess, can_start_processes
from rrid_edge.embedding.reading import ReadAhead
from rrid_edge.embedding.tuning import BatchChoice, EmbeddingGauge, WorkerChoice
from rrid_edge.engines.base import Engine
from rrid_edge.errors import ImageError
from rrid_edge.machine.processor import usable_cores

_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class FileFacts:
    """A file as it was read.

    Attributes:
        path: the file.
        sha256: of the bytes that were decoded (hex).
        size: its size before reading.
        mtime_ns: its modification time before reading: a change while reading is seen by the next comparison.
    """

    path: Path
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class EmbeddedBatch:
    """Some files with their descriptors.

    Attributes:
        files: what was read, N of them.
        places: int64 (N,): where these files stand in the list that was asked for.
        descriptors: float32 (N, D).
        failed: files that gave no image, with the reason.
    """

    files: tuple[FileFacts, ...]
    places: NDArray[np.int64]
    descriptors: NDArray[np.float32]
    failed: tuple[tuple[Path, str], ...]

    @property
    def done(self) -> int:
        """Files dealt with."""
        return len(self.files) + len(self.failed)


@dataclass(frozen=True)
class _Fetched:
    facts: FileFacts
    content: bytes


@dataclass(frozen=True)
class _Decoded:
    facts: FileFacts
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Assembled:
    files: tuple[FileFacts, ...]
    places: NDArray[np.int64]
    images: NDArray[np.uint8]
    failed: tuple[tuple[Path, str], ...]


def embed_files(
    engine: Engine,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    batch: int | None = None,
    gauge: EmbeddingGauge | None = None,
) -> Generator[EmbeddedBatch, None, None]:
    """Descriptors of image files, in batches of whatever is decoded: mostly, but not always, in the order of ``paths``.

    Threads fetch and decode up to three batches ahead, and one more puts the next batch together while the engine is at work,
    so that all this costs nothing as long as it keeps up. Where the engine still has to wait because threads hold each other
    up, every one of them gets a process to decode for it. No more than these batches are in memory, however many files there
    are. A broken file is reported in a batch, and a slow one comes in a later batch than its neighbours; neither stalls the
    rest.

    Args:
        engine: what turns images into descriptors; it runs in the caller's thread.
        paths: image files.
        workers: decoding threads, or processes; None begins with two threads and adds more while the engine has to wait.
        batch: images a call of the engine; None measures several sizes on the first batches and keeps the fastest.
        gauge: filled with what was chosen and what it took.
    """
    gauge = gauge if gauge is not None else EmbeddingGauge()
    sizes = BatchChoice(engine.max_batch, len(paths), batch)
    choice = WorkerChoice(usable_cores(), workers, processes=can_start_processes())
    height, width = engine.spec.height_px, engine.spec.width_px
    assembler = ThreadPoolExecutor(1, "assemble")
    ahead = ReadAhead(
        paths,
        _fetch,
        lambda fetched: _decode(fetched, height, width),
        threads=choice.threads,
        window=sizes.largest * _BATCHES_AHEAD,
    )
    with assembler, ahead:  # left in the other order: what the assembler waits for ends first
        pending = assembler.submit(_assemble, ahead, sizes.size, paths, (height, width))
        while True:
            start = time.perf_counter()
            assembled = pending.result()
            taken = time.perf_counter()
            if assembled is None:
                return
            pending = assembler.submit(_assemble, ahead, sizes.size, paths, (height, width))
            descriptors = engine.run(assembled.images)
            ended = time.perf_counter()
            sizes.ran(len(descriptors), ended - taken)
            if choice.starved(taken - start, ended - taken):
                if processes := choice.processes(ahead.decode_s, len(paths) - ahead.taken):
                    ahead.replace_threads(processes, lambda: _decoding_elsewhere(height, width))
                else:
                    ahead.add_threads(choice.more_threads())
            gauge.images += len(descriptors)
            gauge.batch, gauge.workers = sizes.size, ahead.threads
            gauge.waited_s += taken - start
            gauge.computed_s += ended - taken
            yield EmbeddedBatch(assembled.files, assembled.places, descriptors, assembled.failed)


def _assemble(
    ahead: ReadAhead[_Decoded], size: int, paths: Sequence[Path], shape: tuple[int, int]
) -> _Assembled | None:
    """The next batch as one array, made while the engine is at the one before; None when there are no more files."""
    found = ahead.take(size)
    if not found:
        return None
    good = [(place, item) for place, item in found if isinstance(item, _Decoded)]
    failed = tuple((paths[place], item.reason) for place, item in found if isinstance(item, ImageError))
    images = np.stack([item.pixels for _, item in good]) if good else np.empty((0, *shape, 3), np.uint8)
    places = np.array([place for place, _ in good], np.int64)
    return _Assembled(tuple(item.facts for _, item in good), places, images, failed)


def _fetch(path: Path) -> _Fetched:
    """Read a file once: the bytes that are hashed are the bytes that are decoded."""
    try:
        before = path.stat()
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from error
    return _Fetched(FileFacts(path, hashlib.sha256(content).hexdigest(), before.st_size, before.st_mtime_ns), content)


def _decode(fetched: _Fetched, height_px: int, width_px: int) -> _Decoded:
    pixels = read_image_bytes(io.BytesIO(fetched.content), fetched.facts.path, height_px, width_px)
    return _Decoded(fetched.facts, pixels)


@contextlib.contextmanager
def _decoding_elsewhere(height_px: int, width_px: int) -> Iterator[Callable[[_Fetched], _Decoded]]:
    """Decodes in a process of its own; here where it cannot be started, and what it leaves when it is killed."""

    def here(fetched: _Fetched) -> _Decoded:
        return _decode(fetched, height_px, width_px)

    try:
        process = DecodingProcess(height_px, width_px)
    except OSError:
        yield here
        return

    def there(fetched: _Fetched) -> _Decoded:
        try:
            return _Decoded(fetched.facts, process.decode(fetched.content, fetched.facts.path))
        except OSError:
            return here(fetched)

    with process:
        yield there
