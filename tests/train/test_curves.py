"""``curves.png``: all of its markers lie inside the axes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_train.monitor import draw_curves

MARKERS = {"mAP": (255, 127, 14), "rank-1": (44, 160, 44)}
"""Second and third colour of matplotlib's cycle."""


def area(folder: Path, shares: dict[str, float]) -> dict[str, int]:
    """Number of pixels in the colour of each measure, with one validation. Other lines always add the same."""
    step = {"kind": "train", "step": 1, "triplet": 0.3, "cross_entropy": 2.0, "precision": 0.5}
    rows = [step | {"step": number} for number in (1, 2)] + [{"kind": "validation", "step": 2, "epoch": 1, **shares}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    draw_curves(folder)
    with Image.open(folder / "curves.png") as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    return {name: int((np.abs(pixels - colour).max(axis=2) < 8).sum()) for name, colour in MARKERS.items()}


@pytest.mark.parametrize(("first", "second"), [(1.0, 0.0), (0.0, 1.0)])
def test_markers_at_0_and_1_are_drawn_whole(tmp_path, first, second):
    pytest.importorskip("matplotlib")
    inside = area(tmp_path, {"mAP": 0.3, "rank-1": 0.7})
    assert min(inside.values()) > 40
    outside = area(tmp_path, {"mAP": first, "rank-1": second})
    for name, pixels in inside.items():
        assert outside[name] == pytest.approx(pixels, abs=6), name
