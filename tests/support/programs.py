"""Reads the Python programs of a documentation page, and fills a folder in which they run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines import FakeEngine
from rrid_edge.parity.goldens import Goldens, save_goldens
from rrid_edge.ranking.labels import Labels
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

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


def furnish_video(folder: Path, frames: int = 8) -> None:
    """Write ``door.mp4``, in which two people walk, and ``boxes.csv``; the second one comes in with frame 2."""
    av = pytest.importorskip("av")
    people = [np.asarray(noise(seed, 96, 40)) for seed in (1, 5)]
    rows: list[tuple[int, ...]] = []
    with av.open(str(folder / "door.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate = 320, 160, 4_000_000
        for number in range(frames):
            picture = np.full((160, 320, 3), 90, np.uint8)
            for index, person in enumerate(people if number >= 2 else people[:1]):
                x, y = 20 + 160 * index + 4 * number, 30 + index
                picture[y : y + 96, x : x + 40] = person
                rows.append((number, x, y, x + 40, y + 96))
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        video.mux(stream.encode())
    np.savetxt(folder / "boxes.csv", rows, fmt="%d", delimiter=",")
