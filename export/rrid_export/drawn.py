"""Drawn patterns: images for a comparison where no crops are at hand. Needs neither torch nor onnx."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.reference import Crops
from rrid_edge.progress import step
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import PeopleSample

_DRAWN_IMAGES = 16


@step("drawing patterns")
def drawn_patterns(spec: ModelSpec) -> Crops:
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
