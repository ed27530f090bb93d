"""Makes small pictures for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 128, width: int = 64) -> Image.Image:
    """Return a smooth random RGB picture. Different seeds give unrelated pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def save_crops(folder: Path, count: int, *, persons: int = 4, cameras: int = 3) -> list[Path]:
    """Write ``count`` JPEG crops with Market-1501 names. Crops of one person look similar."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        person = index % persons
        base = np.asarray(noise(1000 + person), dtype=np.int16)
        jitter = np.random.default_rng(index).integers(-20, 21, base.shape, dtype=np.int16)
        picture = Image.fromarray(np.clip(base + jitter, 0, 255).astype(np.uint8))
        path = folder / f"{person + 1:04d}_c{index % cameras + 1}s1_{index:06d}_00.jpg"
        picture.save(path, quality=92)
        paths.append(path)
    return paths
