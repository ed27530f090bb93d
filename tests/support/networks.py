"""A tiny RRID network."""

from __future__ import annotations

import torch

from rrid_train.model import RRID
from rrid_train.settings import ModelConfig

TINY = ModelConfig("resnet18", 96, 32, (3, 2), 8)


def tiny_network(seed: int = 0) -> RRID:
    """Return a small network whose batch norms are not the identity, so that folding them has an effect."""
    torch.manual_seed(seed)
    model = RRID(TINY, 5)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval()
