"""Golden descriptors: images and PyTorch's descriptors of them, to check parity on machines without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.reference import Crops, Reference, computed_reference, read_crops
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import PeopleSample
from rrid_export.source import SourceNetwork
from rrid_export.torch_engine import TorchEngine

REFERENCE_NAME = "PyTorch, two passes"
_DRAWN_IMAGES = 16


def make_goldens(source: SourceNetwork, *, flip: bool, crops: Path | None, count: int) -> Reference:
    """Run the trained network in PyTorch on crops.

    Args:
        source: the trained network.
        flip: average each image with its mirror.
        crops: folder of real crops, of which at most ``count`` are used: all crops of some people, and distractors (see
            :func:`rrid_edge.ranking.sampling.sample_people`). Unreadable ones are left out. None uses drawn patterns,
            which prove only a float32 model.
        count: largest number of crops.

    Raises:
        UsageError: the folder does not exist or has fewer than two readable images.
    """
    with TorchEngine(source, flip=flip, max_batch=8) as engine:
        spec = engine.spec
        read = _drawn_patterns(spec) if crops is None else read_crops(crops, spec, count)
        return computed_reference(engine, REFERENCE_NAME, read, spec)


def _drawn_patterns(spec: ModelSpec) -> Crops:
    """Draw smooth random colours with some noise, the same on every machine."""
    generator = np.random.default_rng(0)
    size = (spec.width_px, spec.height_px)
    images = []
    for _ in range(_DRAWN_IMAGES):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 4, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR), dtype=np.int16)
        noise = generator.integers(-12, 13, smooth.shape, dtype=np.int16)
        images.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    labels = Labels.of([-1] * _DRAWN_IMAGES, [-1] * _DRAWN_IMAGES)
    names = tuple(f"pattern {index}" for index in range(_DRAWN_IMAGES))
    return Crops(np.stack(images), names, labels, PeopleSample.of(labels))
