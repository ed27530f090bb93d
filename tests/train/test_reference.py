"""The forward pass of the published evaluation: against the same steps in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rrid_train.model import RRIDOutput
from rrid_train.reference import describe
from rrid_train.validation import extract
from support.reference import normalised

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 8, 3), dtype=np.uint8)


class Columns(torch.nn.Module):
    """A network whose two blocks are the image's first and last column, so that mirroring exchanges them."""

    def forward(self, pixels: torch.Tensor) -> RRIDOutput:
        return RRIDOutput(torch.stack([pixels[..., 0].flatten(1), pixels[..., -1].flatten(1)], dim=1), torch.empty(0))


def _expected(flip):
    pixels = normalised(IMAGES).numpy().astype(np.float64)
    left, right = (pixels[..., column].reshape(len(pixels), -1) for column in (0, -1))
    both = np.concatenate([left, right], axis=1)
    if flip:
        both = (both + np.concatenate([right, left], axis=1)) / 2
    return both / np.linalg.norm(both, axis=1, keepdims=True)


@pytest.mark.parametrize("flip", [True, False])
def test_descriptors_equal_the_steps_in_double_precision(flip):
    found = describe(Columns(), torch.from_numpy(IMAGES), flip=flip)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), _expected(flip), atol=1e-6)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_validation_computes_the_same_descriptors(tmp_path, channels_last, amp):
    config: Any = SimpleNamespace(channels_last=channels_last, amp=amp, height=12, width=8, num_workers=1)
    paths = [tmp_path / f"{number}.png" for number in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    found = extract(Columns(), config, torch.device("cpu"), paths, batch=2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, describe(Columns(), torch.from_numpy(IMAGES)).numpy())


def test_a_custom_gather_is_called_for_each_view():
    seen = []

    def gather(blocks):
        seen.append(tuple(blocks.shape))
        return blocks.flatten(1)

    np.testing.assert_allclose(
        describe(Columns(), torch.from_numpy(IMAGES), gather=gather).numpy(), _expected(True), atol=1e-6
    )
    assert seen == [(3, 2, 36)] * 2
