"""Files to descriptors: decoding threads run ahead of the engine, with bounded memory and in the files' order."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.base import Engine
from rrid_edge.errors import ImageError
from rrid_edge.images import read_image_bytes

DEFAULT_BATCH = 16
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
        descriptors: float32 (N, D).
        failed: files that gave no image, with the reason.
    """

    files: tuple[FileFacts, ...]
    descriptors: NDArray[np.float32]
    failed: tuple[tuple[Path, str], ...]

    @property
    def done(self) -> int:
        """Files dealt with."""
        return len(self.files) + len(self.failed)


def default_workers() -> int:
    """Decoding threads when none are asked for: decoding is a small part of the work on a CPU, a large one on a GPU."""
    return max(2, min(16, os.cpu_count() or 2))


def embed_files(
    engine: Engine, paths: Sequence[Path], *, workers: int | None = None, batch: int | None = None
) -> Iterator[EmbeddedBatch]:
    """Descriptors of image files, in batches, in the order of ``paths``.

    Decoding runs in threads (Pillow releases the interpreter while it decodes) up to three batches ahead of the engine,
    so it costs nothing as long as it keeps up; at most those batches are in memory. A broken file is reported in its
    batch and stalls nothing.

    Args:
        engine: what turns images into descriptors; it runs in the caller's thread.
        paths: image files.
        workers: decoding threads.
        batch: images a call of the engine.
    """
    size = min(batch or DEFAULT_BATCH, engine.max_batch)
    height, width = engine.spec.height_px, engine.spec.width_px
    ahead = size * _BATCHES_AHEAD
    waiting: deque[Future[tuple[FileFacts, NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode") as pool:
        try:
            submitted = 0
            for start in range(0, len(paths), size):
                end = min(start + size, len(paths))
                while submitted < min(end + ahead, len(paths)):
                    waiting.append(pool.submit(_read, paths[submitted], height, width))
                    submitted += 1
                yield _run(engine, paths[start:end], [waiting.popleft() for _ in range(start, end)])
        finally:
            for future in waiting:
                future.cancel()


def _run(
    engine: Engine, paths: Sequence[Path], futures: Sequence[Future[tuple[FileFacts, NDArray[np.uint8]]]]
) -> EmbeddedBatch:
    files, images, failed = [], [], []
    for path, future in zip(paths, futures, strict=True):
        try:
            facts, pixels = future.result()
        except ImageError as error:
            failed.append((path, error.reason))
        else:
            files.append(facts)
            images.append(pixels)
    shape = (0, engine.spec.height_px, engine.spec.width_px, 3)
    descriptors = engine.run(np.stack(images) if images else np.empty(shape, np.uint8))
    return EmbeddedBatch(tuple(files), descriptors, tuple(failed))


def _read(path: Path, height_px: int, width_px: int) -> tuple[FileFacts, NDArray[np.uint8]]:
    """Read a file once: the bytes that are hashed are the bytes that are decoded."""
    try:
        before = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from error
    facts = FileFacts(path, hashlib.sha256(data).hexdigest(), before.st_size, before.st_mtime_ns)
    return facts, read_image_bytes(io.BytesIO(data), path, height_px, width_px)
