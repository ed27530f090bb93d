"""Fixtures of the tests of the command line. Modules that need another desk have their own."""

from __future__ import annotations

import pytest

from support.onnx_models import save_tiny_model
from support.pictures import save_crops


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The working folder: 12 crops that are not indexed, and a tiny model."""
    monkeypatch.chdir(tmp_path)
    save_crops(tmp_path / "gallery", 12)
    save_tiny_model(tmp_path / "rrid.onnx")
    return tmp_path
