"""The forward pass of the published evaluation, used by validation, ``evaluate`` and the benchmarks.

It normalises the pixels, runs the network on the image and on its mirror, averages the two views, and scales the mean
to unit length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rrid_edge.model.spec import IMAGENET_MEAN, IMAGENET_STD
from rrid_train.model import RRIDOutput


def normalise(images: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """Scale uint8 RGB (B, height, width, 3) to [0, 1] and normalise it with ImageNet's mean and standard deviation.

    Returns:
        float32 (B, 3, height, width), on the same device.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).reshape(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).reshape(3, 1, 1)
    pixels = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return pixels.to(memory_format=memory_format)


def flat(blocks: Tensor) -> Tensor:
    """Concatenate float blocks (B, blocks, width) to float32 (B, blocks * width)."""
    return blocks.flatten(1).float()


def describe(
    network: Callable[[Tensor], RRIDOutput],
    images: Tensor,
    *,
    flip: bool = True,
    memory_format: torch.memory_format = torch.preserve_format,
    gather: Callable[[Tensor], Tensor] = flat,
) -> Tensor:
    """Unit descriptors of a batch, as the published evaluation computes them.

    Args:
        network: the trained network in evaluation mode; it may be compiled or wrapped.
        images: uint8 (B, height, width, 3), RGB, on the network's device.
        flip: average image and mirror; False uses the image only.
        memory_format: memory layout of the network's input.
        gather: turns the blocks of one view into float32 (B, D).

    Returns:
        float32 (B, D), rows of unit length.
    """
    pixels = normalise(images, memory_format)
    features = gather(network(pixels).blocks)
    if flip:
        features = (features + gather(network(pixels.flip(3)).blocks)) / 2
    return F.normalize(features)
