"""The optimiser, and its learning rates at every step."""

from __future__ import annotations

import math

import torch

from rrid_train.model import RRID
from rrid_train.settings import TrainConfig


def make_optimiser(config: TrainConfig, model: RRID) -> torch.optim.SGD:
    """SGD with two parameter groups: the backbone at ``base_lr``, then the head at ``lr``."""
    groups = [
        {"params": list(model.backbone_parameters()), "lr": config.base_lr},
        {"params": list(model.head_parameters()), "lr": config.lr},
    ]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def set_learning_rates(optimiser: torch.optim.Optimizer, config: TrainConfig, step: int, steps_per_epoch: int) -> None:
    """Set both learning rates of :func:`make_optimiser` for one step; arguments as for :func:`rate_factor`."""
    factor = rate_factor(config, step, steps_per_epoch)
    for group, rate in zip(optimiser.param_groups, (config.base_lr, config.lr), strict=True):
        group["lr"] = rate * factor


def rate_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The factor on both learning rates at one step.

    Args:
        config: warm-up, and staircase or cosine.
        step: optimiser steps done so far.
        steps_per_epoch: optimiser steps per epoch.

    Returns:
        A staircase (published recipe: x0.1 at epochs 40 and 60) or a cosine to 0. During warm-up it is multiplied by
        a factor that rises linearly from 0.1 to 1.
    """
    epoch = step / steps_per_epoch
    if config.cosine:
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / config.epochs)))
    else:
        factor = config.staircase_factor ** sum(epoch >= boundary for boundary in config.decay_schedule)
    if epoch < config.warm_up_epochs:
        factor *= 0.1 + 0.9 * epoch / config.warm_up_epochs
    return factor


def epochs_remark(old: TrainConfig, new: TrainConfig, step: int, steps_per_epoch: int) -> list[str]:
    """What to say about the learning rates of a resumed run that gets another number of epochs.

    Args:
        old: settings before.
        new: settings from now on.
        step: optimiser steps done so far.
        steps_per_epoch: optimiser steps per epoch.
    """
    if old.epochs == new.epochs:
        return []
    start = f"epochs {new.epochs}, not {old.epochs}: the exact resume ends here"
    if not new.cosine:
        lowered = ", ".join(str(epoch) for epoch in new.decay_schedule) or "none"
        return [f"{start}; the staircase stays (learning rates fall at epochs: {lowered})"]
    before, after = (rate_factor(config, step, steps_per_epoch) for config in (old, new))
    return [
        f"{start}; the cosine falls to 0 at epoch {new.epochs}: the learning rates go on at {after:.3f} of their start "
        f"values, not at {before:.3f}"
    ]
