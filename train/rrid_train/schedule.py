"""The learning rate of every step."""

from __future__ import annotations

import math

from rrid_train.settings import TrainConfig


def rate_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """What both learning rates are multiplied by at a step.

    Args:
        config: warm-up, staircase or cosine.
        step: optimiser steps done so far.
        steps_per_epoch: optimiser steps an epoch.

    Returns:
        The staircase (published recipe: x0.1 after epochs 40 and 60) or a cosine to 0, times a linear warm-up from 0.1.
    """
    epoch = step / steps_per_epoch
    if config.cosine:
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / config.epochs)))
    else:
        factor = config.staircase_factor ** sum(epoch >= boundary for boundary in config.decay_schedule)
    if epoch < config.warm_up_epochs:
        factor *= 0.1 + 0.9 * epoch / config.warm_up_epochs
    return factor
