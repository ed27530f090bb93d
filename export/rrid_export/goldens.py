"""Golden descriptors: images and PyTorch's descriptors of them, to check parity on machines without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.folder import list_images
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import read_labels
from rrid_edge.errors import UsageError, item_at_work, printable
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.goldens import Goldens
from rrid_edge.ranking.labels import Labels
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine

_DRAWN_IMAGES = 16


def make_goldens(source: SourceNetwork, *, flip: bool, crops: Path | None, count: int) -> Goldens:
    """Run the trained network in PyTorch on crops.

    Args:
        source: the trained network.
        flip: average each image with its mirror.
        crops: folder of real crops; ``count`` evenly spaced ones are used. None uses drawn patterns, which prove only a
            float32 model.
        count: largest number of crops.

    Raises:
        UsageError: the folder does not exist or has fewer than two images.
        ImageError: a crop cannot be read.
    """
    with TorchEngine(source, flip=flip, max_batch=8) as engine:
        images, names = _drawn_patterns(engine.spec) if crops is None else _read_crops(crops, engine.spec, count)
        persons, cameras = read_labels(names)
        return Goldens(images, engine.run(images), names, engine.spec.fingerprint, Labels(persons, cameras))


def _read_crops(folder: Path, spec: ModelSpec, count: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    paths = list_images(folder)
    if len(paths) < 2:
        raise UsageError(f"{printable(folder)}: {len(paths)} images found; expected a folder with at least 2 crops")
    chosen = [paths[index * len(paths) // min(count, len(paths))] for index in range(min(count, len(paths)))]
    images = []
    for path in chosen:
        with item_at_work(path):
            images.append(read_image(path, spec.height_px, spec.width_px))
    return np.stack(images), tuple(path.relative_to(folder).as_posix() for path in chosen)


def _drawn_patterns(spec: ModelSpec) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw smooth random colours with some noise, the same on every machine."""
    generator = np.random.default_rng(0)
    size = (spec.width_px, spec.height_px)
    images = []
    for _ in range(_DRAWN_IMAGES):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 4, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR), dtype=np.int16)
        noise = generator.integers(-12, 13, smooth.shape, dtype=np.int16)
        images.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return np.stack(images), tuple(f"pattern {index}" for index in range(_DRAWN_IMAGES))
