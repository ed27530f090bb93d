"""The published evaluation's forward pass: what validation, ``evaluate`` and the benchmark's yardsticks compute.

Pixels are normalised, the network looks at the image and at its mirror, and the mean of the two views gets unit length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rrid_edge.model.spec import IMAGENET_MEAN, IMAGENET_STD
from rrid_train.model import RRIDOutput


def normalise(images: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """uint8 (B, height, width, 3) to the network's float32 (B, 3, height, width): [0, 1], ImageNet mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).reshape(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).reshape(3, 1, 1)
    pixels = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
    return pixels.to(memory_format=memory_format)


def flat(blocks: Tensor) -> Tensor:
    """Blocks (B, blocks, width) side by side: float32 (B, blocks * width)."""
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
        network: the trained network in evaluation mode, or what stands for it (compiled, on several devices).
        images: uint8 (B, height, width, 3), RGB, on the network's device.
        flip: mean over image and mirror; False looks at the image only.
        memory_format: layout of the network's input.
        gather: makes float32 (B, D) of the blocks of one view.

    Returns:
        float32 (B, D), rows of unit length.
    """
    pixels = normalise(images, memory_format)
    features = gather(network(pixels).blocks)
    if flip:
        features = (features + gather(network(pixels.flip(3)).blocks)) / 2
    return F.normalize(features)
