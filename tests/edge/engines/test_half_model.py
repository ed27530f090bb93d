"""Tests on the CPU that the ONNX file and the NumPy twin of the GPU tests' network agree."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.engines import open_engine
from support.half_model import half_reference, save_half_model, smooth_images


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("fp16", 0.999)])
def test_onnx_and_numpy_agree(tmp_path, precision, least):
    images = smooth_images(8)
    expected = half_reference(images)
    with open_engine(save_half_model(tmp_path / "m.onnx", precision), "onnxruntime", threads=1) as engine:
        found = engine.run(images)
    assert (found * expected).sum(axis=1).min() >= least
    # The descriptors of different pictures differ, so agreement is not trivial.
    assert (expected @ expected.T - np.eye(8)).max() < 0.995
