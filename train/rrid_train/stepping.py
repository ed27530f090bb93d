"""The network, its optimiser, and one step of the training."""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.machine.processor import threads_within
from rrid_train.data.workers import Batch
from rrid_train.distributed import Processes
from rrid_train.losses import LossTerms, rrid_loss
from rrid_train.model import RRID
from rrid_train.schedule import make_optimiser, set_learning_rates
from rrid_train.settings import TrainConfig
from rrid_train.validation import autocast, to_input
from rrid_train.weights import load_backbone


class Stepper:
    """A network on its device, and its optimiser.

    Args:
        config: all settings.
        processes: this process's rank and device.
        num_persons: classes of the classifiers.
        network: class of the network: :class:`RRID`, or a subclass that tries another head.
        is_fresh: take the weights of the backbone that the settings name. False if a saved state follows: their file
            may lie elsewhere by then.

    Attributes:
        step: optimiser steps done.
        steps_per_epoch: optimiser steps of one epoch.
        last_checkpoint: the last file that was saved, for messages.

    Raises:
        CheckpointError: the backbone weights do not fit.
    """

    def __init__(
        self, config: TrainConfig, processes: Processes, num_persons: int, *, network: type[RRID], is_fresh: bool = True
    ) -> None:
        self.config, self.processes = config, processes
        if threads := threads_within(config.threads, torch.get_num_threads()):
            torch.set_num_threads(threads)
        _seed(config.seed)
        with processes.sharing_errors():
            self.model = network(config.model, num_persons)
            weights = None if config.weights == "auto" else config.weights
            notes = load_backbone(self.model, config.backbone_weights, weights) if is_fresh else []
        if notes and processes.is_main:
            print(printable(f"weights: {'; '.join(notes)}"), file=sys.stderr, flush=True)
        self.network = self._place(self.model)
        self.optimiser = make_optimiser(config, self.model)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=config.amp == "fp16")
        self.step, self.steps_per_epoch, self.last_checkpoint = 0, 1, "none yet"
        self._in_step = False

    def _place(self, model: RRID) -> nn.Module:
        """Move the network to its device and memory layout; compile and distribute it as the settings say."""
        config, device = self.config, self.processes.device
        if config.sync_bn and self.processes.world > 1:
            model = self.model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        model.to(device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        network: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
        if self.processes.world > 1:
            network = DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)
        return network

    def _optimise(self, group: list[Batch]) -> LossTerms:
        """Do one optimiser step on the mean gradient of the batches in ``group``; return the last batch's terms."""
        config, device = self.config, self.processes.device
        self._in_step, failure = True, None
        set_learning_rates(self.optimiser, config, self.step, self.steps_per_epoch)
        self.optimiser.zero_grad(set_to_none=True)
        for images, persons in group:
            with autocast(config, device):
                output = self.network(to_input(images, config, device))
            terms = rrid_loss(output, persons.to(device), margin=config.margin, label_smoothing=config.label_smoothing)
            if not torch.isfinite(terms.total) and failure is None:
                failure = CheckFailedError(
                    f"the loss is {terms.total.item()} at step {self.step}, expected a finite number; start a new run "
                    f"with a lower lr, or with clip_grad 10 (last good checkpoint: {self.last_checkpoint})",
                    parameter=("lr", "clip_grad"),
                )
            self.scaler.scale(terms.total / len(group)).backward()  # type: ignore[no-untyped-call]
        if failure is not None:  # raised after the gradients, which all processes compute together
            self.processes.agree(None, failure)
        if config.clip_grad:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return LossTerms(*(term.detach() for term in terms))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries may still draw from the global generator
    torch.manual_seed(seed)
