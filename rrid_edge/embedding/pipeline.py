"""From files to descriptors: threads read and decode ahead of the engine, in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import read_image_bytes
from rrid_edge.crops.reading import read_file
from rrid_edge.embedding.process import DecodingProcess, can_start_processes
from rrid_edge.embedding.reading import ReadAhead
from rrid_edge.embedding.tuning import BatchSizeTuner, EmbeddingStats, WorkerTuner
from rrid_edge.engines.base import Engine
from rrid_edge.errors import ImageError, RridEdgeError, unforeseen
from rrid_edge.machine.memory import usable_memory_bytes
from rrid_edge.machine.processor import usable_cores

_BATCHES_AHEAD = 3
_WORKER_BYTES = 128 << 20
"""Memory of a decoding process, and of one large image in it."""


@dataclass(frozen=True)
class FileFacts:
    """A file as it was read.

    Attributes:
        path: the file.
        sha256: of the bytes that were decoded (hex).
        size: its size before reading.
        mtime_ns: its modification time before reading, so that the next comparison notices a change during reading.
    """

    path: Path
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class EmbeddedBatch:
    """Files with their descriptors.

    Attributes:
        files: the N files that were embedded.
        indices: int64 (N,), their indices in the list of paths.
        descriptors: float32 (N, D).
        failed: files that could not be decoded, with the reason.
    """

    files: tuple[FileFacts, ...]
    indices: NDArray[np.int64]
    descriptors: NDArray[np.float32]
    failed: tuple[tuple[Path, str], ...]

    @property
    def done(self) -> int:
        """Number of files in this batch, embedded or failed."""
        return len(self.files) + len(self.failed)


@dataclass(frozen=True)
class Fetched:
    """A file that was read: its facts and its bytes."""

    facts: FileFacts
    content: bytes

    @classmethod
    def of(cls, path: Path, content: bytes, size: int, mtime_ns: int) -> Fetched:
        """The bytes of a file with their hash."""
        return cls(FileFacts(path, hashlib.sha256(content).hexdigest(), size, mtime_ns), content)


@dataclass(frozen=True)
class _Decoded:
    facts: FileFacts
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Assembled:
    files: tuple[FileFacts, ...]
    indices: NDArray[np.int64]
    images: NDArray[np.uint8]
    failed: tuple[tuple[Path, str], ...]


def embed_files(
    engine: Engine,
    paths: Sequence[Path],
    *,
    workers: int | None = None,
    batch: int | None = None,
    stats: EmbeddingStats | None = None,
    fetch: Callable[[Path], Fetched] | None = None,
) -> Generator[EmbeddedBatch, None, None]:
    """Embed image files in batches, mostly in the order of ``paths``.

    At most three batches are in memory. A broken file is reported in its batch. A slow file comes in a later batch than
    its neighbours.

    Args:
        engine: turns images into descriptors; runs in the caller's thread.
        paths: image files.
        workers: decoding threads or processes; None starts two threads and adds more while the engine waits.
        batch: images per call of the engine; None measures several sizes on the first batches and keeps the fastest.
        stats: filled with the chosen settings and the time taken.
        fetch: reads a file that is not on a disk; called from several threads. None means :func:`fetch_file`.
    """
    stats = stats if stats is not None else EmbeddingStats()
    batch_size = BatchSizeTuner(engine.max_batch, len(paths), batch)
    tuner = WorkerTuner(_most_workers(), workers, processes=can_start_processes())
    shape = (engine.spec.height_px, engine.spec.width_px)
    assembler = ThreadPoolExecutor(1, "assemble")
    ahead = _read_ahead((paths, fetch or fetch_file), shape, tuner.threads, batch_size.largest * _BATCHES_AHEAD)
    with assembler, ahead:  # closed in reverse order: the assembler waits for the reader, so the reader ends first
        pending = assembler.submit(_assemble, ahead, batch_size.size, paths, shape)
        while True:
            start = time.perf_counter()
            assembled = pending.result()
            assembled_at = time.perf_counter()
            if assembled is None:
                return
            pending = assembler.submit(_assemble, ahead, batch_size.size, paths, shape)
            assembled, descriptors = _computed(engine, assembled)
            waited_s, computed_s = assembled_at - start, time.perf_counter() - assembled_at
            batch_size.record(len(descriptors), computed_s)
            if tuner.starved(waited_s, computed_s):
                _add_workers(ahead, tuner, len(paths), shape)
            stats.batch, stats.workers = batch_size.size, ahead.threads
            stats.record(len(descriptors), waited_s, computed_s)
            yield EmbeddedBatch(assembled.files, assembled.indices, descriptors, assembled.failed)


def _most_workers() -> int:
    """Decoding workers that the cores and the memory of this process's share bear."""
    return max(2, min(usable_cores(), usable_memory_bytes() // _WORKER_BYTES))


def _computed(engine: Engine, batch: _Assembled) -> tuple[_Assembled, NDArray[np.float32]]:
    """The descriptors of a batch. An image that the engine cannot compute becomes a failed file.

    Raises:
        RridEdgeError: the engine cannot work.
        Exception: what nobody foresaw, if no image of the batch can be computed.
    """
    try:
        return batch, engine.run(batch.images)
    except RridEdgeError:
        raise
    except Exception:
        rows, good, failed = [], [], list(batch.failed)
        for place, image in enumerate(batch.images):
            try:
                rows.append(engine.run(image[None]))
                good.append(place)
            except RridEdgeError:
                raise
            except Exception as error:
                failed.append((batch.files[place].path, f"cannot be computed ({unforeseen(error)})"))
        if not good:
            raise
        kept = tuple(batch.files[place] for place in good)
        return _Assembled(kept, batch.indices[good], batch.images[good], tuple(failed)), np.concatenate(rows)


def _read_ahead(
    files: tuple[Sequence[Path], Callable[[Path], Fetched]], shape: tuple[int, int], threads: int, window: int
) -> ReadAhead[_Decoded]:
    return ReadAhead(*files, lambda fetched: _decode(fetched, *shape), threads=threads, window=window)


def _add_workers(ahead: ReadAhead[_Decoded], tuner: WorkerTuner, files: int, shape: tuple[int, int]) -> None:
    """Add threads, or replace the threads by processes where the GIL limits decoding."""
    if processes := tuner.processes(ahead.decode_s, files - ahead.taken):
        ahead.replace_threads(processes, lambda: _process_decoder(*shape))
    else:
        ahead.add_threads(tuner.more_threads())


def _assemble(
    ahead: ReadAhead[_Decoded], size: int, paths: Sequence[Path], shape: tuple[int, int]
) -> _Assembled | None:
    """Stack the next batch while the engine computes the previous one; None after the last file."""
    found = ahead.take(size)
    if not found:
        return None
    good = [(index, item) for index, item in found if isinstance(item, _Decoded)]
    failed = tuple((paths[index], item.reason) for index, item in found if isinstance(item, ImageError))
    images = np.stack([item.pixels for _, item in good]) if good else np.empty((0, *shape, 3), np.uint8)
    indices = np.array([index for index, _ in good], np.int64)
    return _Assembled(tuple(item.facts for _, item in good), indices, images, failed)


def fetch_file(path: Path) -> Fetched:
    """Read a file once, so that the hash is of the bytes that are decoded.

    Raises:
        ImageError: it cannot be read, is too large or has another format.
    """
    content, before = read_file(path)
    return Fetched.of(path, content, before.st_size, before.st_mtime_ns)


def _decode(fetched: Fetched, height_px: int, width_px: int) -> _Decoded:
    pixels = read_image_bytes(fetched.content, fetched.facts.path, height_px, width_px)
    return _Decoded(fetched.facts, pixels)


@contextlib.contextmanager
def _process_decoder(height_px: int, width_px: int) -> Iterator[Callable[[Fetched], _Decoded]]:
    """Decode in a worker process; in this process where none starts, and after it was killed."""

    def here(fetched: Fetched) -> _Decoded:
        return _decode(fetched, height_px, width_px)

    try:
        process = DecodingProcess(height_px, width_px)
    except OSError:
        yield here
        return

    def in_process(fetched: Fetched) -> _Decoded:
        try:
            return _Decoded(fetched.facts, process.decode(fetched.content, fetched.facts.path))
        except OSError:
            return here(fetched)

    with process:
        yield in_process
