"""Fixtures of the tests of the page: one browser per module, and a small gallery with a tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rrid_edge.model.onnx_header import read_spec
from rrid_edge.ranking.thresholds import Threshold
from support.commands import rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops
from support.thresholds import keep, open_set, record

MODEL = "models/rrid.onnx"
RATES = ((1e-4, 0.95), (1e-3, 0.5), (1e-2, 0.2))


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium of this machine."""
    from edge.serve.page.browsing import CHROMIUM, open_browser

    if CHROMIUM is None:
        pytest.skip("no browser: install chromium, chromium-browser or google-chrome to test the page")
    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, its measured thresholds, a gallery ``yard`` of 24 crops, and queries."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / MODEL)
    save_crops(folder / "yard", 24)
    noise(1001).save(folder / "query.png")
    noise(1002).save(folder / "other.png")
    outcome = rrid_edge("index", folder / "yard", "--model", folder / MODEL)
    assert outcome.code == 0, outcome
    points = tuple(Threshold(rate, score, 0.5) for rate, score in RATES)
    keep(folder / MODEL, read_spec(folder / MODEL).fingerprint, record("tiny", points, open_set({0.1: 0.3})))
    return folder
