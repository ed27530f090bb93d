"""From JPEG files to a committed index, beside the bare engine, and the stage that limits it."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from rrid_edge.bench.report import PipelineRow
from rrid_edge.bench.variants import Variant
from rrid_edge.embed import DEFAULT_BATCH, default_workers
from rrid_edge.engines.base import Engine
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local import LocalGallery
from rrid_edge.gallery.sync import IndexSettings, index_folder
from rrid_edge.goldens import Goldens
from rrid_edge.images import read_image

CROP_SIZE = (64, 128)
"""Width and height of the JPEG files: the usual size of a pedestrian crop."""


def write_crops(folder: Path, goldens: Goldens, count: int) -> list[Path]:
    """``count`` JPEG files from the goldens' images, repeated."""
    folder.mkdir(parents=True)
    paths = []
    for index in range(count):
        image = Image.fromarray(goldens.images[index % len(goldens.images)])
        path = folder / f"{index:06d}.jpg"
        image.resize(CROP_SIZE, Image.Resampling.BILINEAR).save(path, quality=90)
        paths.append(path)
    return paths


def measure_pipeline(variant: Variant, goldens: Goldens, folder: Path, *, files: int, repetitions: int) -> PipelineRow:
    """Engine alone and the whole way in turns, medians of ``repetitions``; then decoding and storing alone."""
    paths = write_crops(folder / "crops", goldens, files)
    workers = default_workers()
    with variant.open() as engine:
        images = np.stack([read_image(path, engine.spec.height_px, engine.spec.width_px) for path in paths])
        _engine_alone(engine, images[: 2 * DEFAULT_BATCH])
        alone, whole = [], []
        for repetition in range(repetitions):
            alone.append(files / _engine_alone(engine, images))
            whole.append(files / _end_to_end(engine, folder, repetition))
        decode = _decode_rate(paths, engine, workers)
        store = _store_rate(engine, folder, files)
    rates = {"decode": decode, "compute": statistics.median(alone), "store": store}
    return PipelineRow(
        name=variant.name,
        files=files,
        batch=min(DEFAULT_BATCH, engine.max_batch),
        workers=workers,
        engine_images_per_s=statistics.median(alone),
        end_to_end_images_per_s=statistics.median(whole),
        share=statistics.median(one / two for one, two in zip(whole, alone, strict=True)),
        decode_images_per_s=decode,
        store_images_per_s=store,
        limiting_stage=min(rates, key=lambda name: rates[name]),
    )


def _engine_alone(engine: Engine, images: np.ndarray) -> float:
    size = min(DEFAULT_BATCH, engine.max_batch)
    start = time.perf_counter()
    for first in range(0, len(images), size):
        engine.run(images[first : first + size])
    return time.perf_counter() - start


def _end_to_end(engine: Engine, folder: Path, number: int) -> float:
    start = time.perf_counter()
    with LocalGallery.create(folder / f"index-{number}", engine.spec) as gallery:
        index_folder(folder / "crops", gallery, engine, IndexSettings(batch=DEFAULT_BATCH))
    return time.perf_counter() - start


def _decode_rate(paths: list[Path], engine: Engine, workers: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda path: read_image(path, engine.spec.height_px, engine.spec.width_px), paths):
            pass
    return len(paths) / (time.perf_counter() - start)


def _store_rate(engine: Engine, folder: Path, files: int) -> float:
    vectors = np.random.default_rng(0).standard_normal((files, engine.spec.dimension)).astype(np.float32)
    rows = [NewRow(f"{index:06d}.jpg", "0" * 64, 1, 1) for index in range(files)]
    with LocalGallery.create(folder / "index-store", engine.spec) as gallery:
        start = time.perf_counter()
        for first in range(0, files, 256):
            gallery.add(rows[first : first + 256], vectors[first : first + 256])
        return files / (time.perf_counter() - start)
