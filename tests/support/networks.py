"""Tiny RRID networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rrid_export.source import SourceNetwork
from rrid_train.model import RRID
from rrid_train.settings import ModelConfig

TINY = ModelConfig("resnet18", 96, 32, (3, 2), 8)


def tiny_network(seed: int = 0) -> RRID:
    """Return a small network whose batch norms are not the identity, so that folding them has an effect."""
    torch.manual_seed(seed)
    return _with_random_statistics(RRID(TINY, 5))


def narrow_source() -> SourceNetwork:
    """Return :func:`narrow_network` as if it was read from a checkpoint."""
    return SourceNetwork(narrow_network(), Path("narrow.pth"), "ab", "nothing")


def narrow_network(seed: int = 0) -> RRID:
    """Return :func:`tiny_network` with half of the backbone's channels: 2.8 million weights instead of 11 million.

    Its exported file has the same nodes. Its state dict is no checkpoint: RRID expects the widths of torchvision.
    """
    torch.manual_seed(seed)
    model = RRID(TINY, 5)
    for parent in list(model.base.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, _narrowed(child))
    for projection in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        if isinstance(projection[0], nn.Conv2d) and projection[0].in_channels == 512:
            projection[0] = nn.Conv2d(512 // _NARROWING, projection[0].out_channels, 1)
    return _with_random_statistics(model)


_NARROWING = 2


def _narrowed(layer: Any) -> Any:
    """Return a layer of a backbone with fewer channels. The pixels keep their three."""
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(layer.num_features // _NARROWING)
    if not isinstance(layer, nn.Conv2d):
        return layer
    inputs = layer.in_channels if layer.in_channels == 3 else layer.in_channels // _NARROWING
    size: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding")}
    return nn.Conv2d(inputs, layer.out_channels // _NARROWING, bias=False, **size)


def _with_random_statistics(model: RRID) -> RRID:
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval()
