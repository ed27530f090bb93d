"""Fixtures of stand-ins for TensorRT and CUDA. A conftest imports them."""

from __future__ import annotations

import pytest

from support.tensorrt_behaviour import install
from support.tensorrt_standin import VERSIONS


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch):
    """A machine with each recorded version of TensorRT."""
    return install(monkeypatch, request.param)


@pytest.fixture
def recent(monkeypatch):
    """A machine with TensorRT 10.13."""
    return install(monkeypatch, "10.13.3.9")
