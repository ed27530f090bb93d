"""Throughput of indexing, from image files to a committed index, compared with the engine alone.

Each end-to-end run is between two runs of the engine alone, on the same pixels and batches. The time of the engine
alone is the minimum of these two and of the engine's time inside the end-to-end run. So noise can only lower the share,
and the share is never above 1.
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
from rrid_edge.crops.images import read_image
from rrid_edge.embedding.pipeline import embed_files
from rrid_edge.embedding.tuning import MIN_FILES_FOR_PROCESSES, BatchSizeTuner
from rrid_edge.engines.base import BatchEngine, Engine
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import IndexReport, index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.parity.goldens import Goldens

_DECODING_S = 2.0


@dataclass(frozen=True)
class FileKind:
    """A kind of image file to index.

    Attributes:
        name: label in the report.
        width_px: width of every file.
        height_px: height of every file.
        seconds: time that the engine alone should take; sets the number of files.
        fewest: smallest number of files.
        most: largest number of files.
    """

    name: str
    width_px: int
    height_px: int
    seconds: float
    fewest: int  # with fewer files, opening and the last commit would dominate
    most: int


@dataclass(frozen=True)
class _Pairs:
    """Paired runs.

    Attributes:
        alone: seconds of the engine alone, one per pair.
        whole: seconds from files to the committed index, one per pair.
        middle: report of the end-to-end run of median duration.
        middle_s: seconds of this run.
    """

    alone: list[float]
    whole: list[float]
    middle: IndexReport
    middle_s: float

    @property
    def shares(self) -> list[float]:
        """Throughput end to end as a share of the engine's, one per pair."""
        return [alone / whole for alone, whole in zip(self.alone, self.whole, strict=True)]


@dataclass(frozen=True)
class TunedEngine:
    """An open engine, and the batch size that indexing would choose.

    Attributes:
        name: label in the report.
        engine: the engine.
        batch: images per call.
        image_s: seconds per image in such calls.
    """

    name: str
    engine: Engine
    batch: int
    image_s: float


def measure_pipeline(
    tuned: TunedEngine, goldens: Goldens, folder: Path, kind: FileKind, *, repetitions: int
) -> PipelineRow:
    """Measure indexing end to end, then decoding, copying to the GPU and storing alone.

    Args:
        tuned: what :func:`tune` returned.
        goldens: images of the files.
        folder: new folder for files and indexes.
        kind: kind and number of files.
        repetitions: pairs of end-to-end and engine-only runs. The row has their medians.
    """
    folder.mkdir()
    engine, batch = tuned.engine, tuned.batch
    files = max(kind.fewest, min(kind.most, int(kind.seconds / tuned.image_s)))
    paths = write_files(folder / "files", goldens, kind, files)
    pairs = _measure_pairs(engine, folder, paths[: len(goldens.images)], files, batch, repetitions)
    decode = _decode_rate(paths, engine)
    copy = copy_images_per_s(engine, batch)
    store = _store_rate(engine, folder, files)
    compute, whole_s = files / statistics.median(pairs.alone), statistics.median(pairs.whole)
    rates = {"decode": decode, "copy": copy, "compute": compute, "store": store}
    measured = {name: rate for name, rate in rates.items() if rate is not None}
    return PipelineRow(
        name=tuned.name,
        kind=kind.name,
        files=files,
        batch=batch,
        workers=pairs.middle.workers,
        repetitions=repetitions,
        engine_images_per_s=compute,
        end_to_end_images_per_s=files / whole_s,
        share=statistics.median(pairs.shares),
        lowest_share=min(pairs.shares),
        highest_share=max(pairs.shares),
        decode_images_per_s=decode,
        copy_images_per_s=copy,
        store_images_per_s=store,
        limiting_stage=min(measured, key=lambda name: measured[name]),
        waited_for_decoding=pairs.middle.waited_for_decoding_s / pairs.middle_s,
        waited_for_disk=pairs.middle.waited_for_disk_s / pairs.middle_s,
    )


def _measure_pairs(
    engine: Engine, folder: Path, distinct: list[Path], files: int, batch: int, repetitions: int
) -> _Pairs:
    """Alternate runs of the engine alone and end to end; ``distinct`` are the files that the others repeat."""
    images = np.stack([read_image(path, engine.spec.height_px, engine.spec.width_px) for path in distinct])
    order = np.arange(files) % len(distinct)
    alone, whole, reports = [], [], []
    before = _engine_alone(engine, images, order, batch)
    for repetition in range(repetitions):
        taken, report = _end_to_end(engine, folder, repetition, batch)
        after = _engine_alone(engine, images, order, batch)
        alone.append(min(before, after, report.computed_s))
        whole.append(taken)
        reports.append(report)
        before = after
    middle = int(np.argsort(whole)[len(whole) // 2])
    return _Pairs(alone, whole, reports[middle], whole[middle])


def write_files(folder: Path, goldens: Goldens, kind: FileKind, count: int) -> list[Path]:
    """Write ``count`` JPEG files from the images of the goldens, repeated; returns their paths."""
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


def tune(name: str, engine: Engine, goldens: Goldens) -> TunedEngine:
    """Choose the batch size as indexing does."""
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
    return TunedEngine(name, engine, choice.size, best[choice.size] / choice.size)


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
    """Files per second that decoding delivers to an engine that computes nothing."""
    no_engine = _NoEngine(engine.spec, "nothing", engine.max_batch)
    steps = list(_decoded(no_engine, paths))
    rate = steps[-1][0] / steps[-1][1]
    many = int(rate * _DECODING_S)
    if many < MIN_FILES_FOR_PROCESSES:
        return rate
    # Small files: measure again with so many that worker processes start. Their start is in the first half.
    steps = list(_decoded(no_engine, [paths[index % len(paths)] for index in range(many + MIN_FILES_FOR_PROCESSES)]))
    half_done, start = next(step for step in steps if step[0] >= many // 2)
    all_done, end = next(step for step in steps if step[0] >= many)
    return max(rate, (all_done - half_done) / (end - start))


def _decoded(engine: Engine, paths: list[Path]) -> Iterator[tuple[int, float]]:
    """After every batch: files done, and seconds since the start."""
    start, done = time.perf_counter(), 0
    for batch in embed_files(engine, paths, batch=engine.max_batch):
        done += batch.done
        yield done, time.perf_counter() - start


class _NoEngine(BatchEngine):
    """Returns zeros without computing."""

    def _run_batch(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), self.spec.dimension), np.float32)


def _store_rate(engine: Engine, folder: Path, files: int) -> float:
    vectors = np.random.default_rng(0).standard_normal((files, engine.spec.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [NewRow(f"{index:06d}.jpg", "0" * 64, 1, 1) for index in range(files)]
    with LocalGallery.create(folder / "index-store", engine.spec) as gallery:
        start = time.perf_counter()
        for first in range(0, files, 256):
            gallery.add(rows[first : first + 256], vectors[first : first + 256])
        return files / (time.perf_counter() - start)
