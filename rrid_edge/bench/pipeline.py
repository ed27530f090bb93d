"""From image files to a committed index, beside the bare engine, and the stage that limits it.

A run of the whole way stands between two runs of the engine alone, on the same pixels in the same batches. What the
engine alone takes is the least of these two and of the time that it took inside the whole way: so the machine's moods
can only lower the share, and the whole way is never the faster one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rrid_edge.bench.copying import copy_images_per_s
from rrid_edge.bench.results import PipelineRow
from rrid_edge.bench.variants import Variant
from rrid_edge.crops.images import read_image
from rrid_edge.embedding.pipeline import embed_files
from rrid_edge.embedding.tuning import MIN_FILES_FOR_PROCESSES, BatchSizeTuner
from rrid_edge.engines.base import BatchEngine, Engine
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings, index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.parity.goldens import Goldens

_DECODING_S = 2.0


@dataclass(frozen=True)
class FileKind:
    """What is indexed.

    Attributes:
        name: for people.
        width_px: of every file.
        height_px: of every file.
        seconds: that the engine alone is to take: it decides how many files there are.
        fewest: files at least: opening and the last commit must not be most of what is measured.
        most: files at most.
    """

    name: str
    width_px: int
    height_px: int
    seconds: float
    fewest: int
    most: int


def measure_pipeline(
    variant: Variant, goldens: Goldens, folder: Path, kind: FileKind, *, repetitions: int
) -> PipelineRow:
    """Medians of ``repetitions`` pairs; then decoding, copying (to a GPU) and storing alone."""
    folder.mkdir()
    with variant.open() as engine:
        batch, seconds = _fastest_batch(engine, goldens)
        files = max(kind.fewest, min(kind.most, int(kind.seconds / seconds)))
        paths = write_files(folder / "files", goldens, kind, files)
        distinct = min(len(paths), len(goldens.images))
        images = np.stack([read_image(path, engine.spec.height_px, engine.spec.width_px) for path in paths[:distinct]])
        order = np.arange(files) % distinct
        alone, whole, reports = [], [], []
        before = _engine_alone(engine, images, order, batch)
        for repetition in range(repetitions):
            taken, report = _end_to_end(engine, folder, repetition, batch)
            after = _engine_alone(engine, images, order, batch)
            alone.append(min(before, after, report.computed_s))
            whole.append(taken)
            reports.append(report)
            before = after
        decode = _decode_rate(paths, engine)
        copy = copy_images_per_s(engine, batch)
        store = _store_rate(engine, folder, files)
    rates = {"decode": decode, "copy": copy, "compute": files / statistics.median(alone), "store": store}
    measured = {name: rate for name, rate in rates.items() if rate is not None}
    middle = reports[int(np.argsort(whole)[len(whole) // 2])]
    return PipelineRow(
        name=variant.name,
        kind=kind.name,
        files=files,
        batch=batch,
        workers=middle.workers,
        repetitions=repetitions,
        engine_images_per_s=files / statistics.median(alone),
        end_to_end_images_per_s=files / statistics.median(whole),
        share=statistics.median(one / two for one, two in zip(alone, whole, strict=True)),
        lowest_share=min(one / two for one, two in zip(alone, whole, strict=True)),
        highest_share=max(one / two for one, two in zip(alone, whole, strict=True)),
        decode_images_per_s=decode,
        copy_images_per_s=copy,
        store_images_per_s=store,
        limiting_stage=min(measured, key=lambda name: measured[name]),
        waited_for_decoding=middle.waited_for_decoding_s / statistics.median(whole),
        waited_for_disk=middle.waited_for_disk_s / statistics.median(whole),
    )


def write_files(folder: Path, goldens: Goldens, kind: FileKind, count: int) -> list[Path]:
    """``count`` JPEG files from the goldens' images, repeated."""
    folder.mkdir(parents=True)
    size = (kind.width_px, kind.height_px)
    paths: list[Path] = []
    for index in range(count):
        path = folder / f"{index:06d}.jpg"
        if index < len(goldens.images):
            image = Image.fromarray(goldens.images[index]).resize(size, Image.Resampling.BILINEAR)
            image.save(path, quality=90)
        else:
            path.write_bytes(paths[index % len(goldens.images)].read_bytes())
        paths.append(path)
    return paths


def _fastest_batch(engine: Engine, goldens: Goldens) -> tuple[int, float]:
    """The batch that indexing would choose, and the seconds that an image takes in it."""
    choice = BatchSizeTuner(engine.max_batch, files=1 << 30)
    best: dict[int, float] = {}
    while choice.trying:
        size = choice.size
        sample = goldens.images[np.arange(size) % len(goldens.images)]
        start = time.perf_counter()
        engine.run(sample)
        taken = time.perf_counter() - start
        choice.record(size, taken)
        best[size] = min(taken, best.get(size, taken))
    return choice.size, best[choice.size] / choice.size


def _engine_alone(engine: Engine, images: np.ndarray, order: np.ndarray, batch: int) -> float:
    seconds = 0.0
    for first in range(0, len(order), batch):
        part = images[order[first : first + batch]]
        start = time.perf_counter()
        engine.run(part)
        seconds += time.perf_counter() - start
    return seconds


def _end_to_end(engine: Engine, folder: Path, number: int, batch: int) -> tuple[float, IndexReport]:
    start = time.perf_counter()
    with LocalGallery.create(folder / f"index-{number}", engine.spec) as gallery:
        report = index_folder(folder / "files", gallery, engine, IndexSettings(batch=batch))
    return time.perf_counter() - start, report


def _decode_rate(paths: list[Path], engine: Engine) -> float:
    """Files a second that an engine that costs nothing gets; of small files so many that processes can help."""
    free = _FreeEngine(engine.spec, "nothing", engine.max_batch)
    seen = list(_seen(free, paths))
    rate = seen[-1][0] / seen[-1][1]
    many = int(rate * _DECODING_S)
    if many < MIN_FILES_FOR_PROCESSES:
        return rate
    seen = list(_seen(free, [paths[index % len(paths)] for index in range(many + MIN_FILES_FOR_PROCESSES)]))
    done, start = next(pair for pair in seen if pair[0] >= many // 2)
    later, end = next(pair for pair in seen if pair[0] >= many)
    return max(rate, (later - done) / (end - start))


def _seen(engine: Engine, paths: list[Path]) -> Iterator[tuple[int, float]]:
    """Files dealt with and the seconds since the start, after every batch."""
    start, done = time.perf_counter(), 0
    for batch in embed_files(engine, paths, batch=engine.max_batch):
        done += batch.done
        yield done, time.perf_counter() - start


class _FreeEngine(BatchEngine):
    """Descriptors of nothing, at once."""

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), self.spec.dimension), np.float32)


def _store_rate(engine: Engine, folder: Path, files: int) -> float:
    vectors = np.random.default_rng(0).standard_normal((files, engine.spec.dimension)).astype(np.float32)
    rows = [NewRow(f"{index:06d}.jpg", "0" * 64, 1, 1) for index in range(files)]
    with LocalGallery.create(folder / "index-store", engine.spec) as gallery:
        start = time.perf_counter()
        for first in range(0, files, 256):
            gallery.add(rows[first : first + 256], vectors[first : first + 256])
        return files / (time.perf_counter() - start)
