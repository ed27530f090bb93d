"""Reads the Python programs of a documentation page, and fills a folder in which they run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

from rrid_edge.engines import FakeEngine
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from support.onnx_models import save_tiny_model
from support.pictures import save_crops

ROOT = Path(__file__).parents[2]


def programs_of(page: Path) -> list[str]:
    """Return the fenced Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def furnish(folder: Path) -> None:
    """Write the files that the pages use: ``models/rrid.onnx`` with goldens, ``gallery/`` and ``query.jpg``."""
    from rrid_edge.engines import open_engine

    model = save_tiny_model(folder / "models" / "rrid.onnx")
    crops = save_crops(folder / "gallery", 12)
    shutil.copy(crops[0], folder / "query.jpg")
    spec = FakeEngine().spec
    images = np.random.default_rng(0).integers(0, 256, (4, spec.height_px, spec.width_px, 3), dtype=np.uint8)
    with open_engine(model, "onnxruntime") as engine:
        descriptors = engine.run(images)
    unknown = np.full(4, -1, np.int64)
    goldens = Goldens(images, descriptors, tuple("abcd"), spec.fingerprint, Labels(unknown, unknown))
    save_goldens(folder / "models" / "rrid.goldens.npz", goldens)
