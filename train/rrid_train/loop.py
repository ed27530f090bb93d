"""The training loop: from settings to ``best.safetensors``.

SIGINT and SIGTERM stop a run after any step. A resumed run ends with the same weights as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rrid_edge.errors import CheckFailedError, UsageError, printable
from rrid_edge.files import write_json
from rrid_edge.machine.processor import threads_within
from rrid_train.checkpoint import (
    Checkpoint,
    load_training_state,
    save_checkpoint,
    save_training_state,
)
from rrid_train.config import config_from_dict
from rrid_train.data.layout import Dataset, load_dataset
from rrid_train.data.loader import Batch, accumulation_groups, make_loader
from rrid_train.distributed import Processes, join_processes, leave_processes
from rrid_train.losses import LossTerms, rrid_loss
from rrid_train.model import RRID
from rrid_train.monitor import Monitor, StepMeter
from rrid_train.schedule import make_optimiser, set_learning_rates
from rrid_train.settings import TrainConfig
from rrid_train.validation import autocast, has_bfloat16, to_input, validate
from rrid_train.weights import load_backbone

STATE_FILE = "last.state.pt"


def train(config: TrainConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train to the last epoch, or until SIGINT or SIGTERM.

    Args:
        config: all settings. With ``resume`` only ``exp_dir`` is used; the run supplies the others.
        resume: continue the run in ``exp_dir``.
        overwrite: delete a run that is already in ``exp_dir``.

    Returns:
        ``best.safetensors`` (highest validation mAP) if a validation has run, else ``last.safetensors``.

    Raises:
        UsageError: a setting cannot be used, a folder is missing, or ``exp_dir`` holds a run already.
        DatasetError: the dataset contradicts its layout.
        CheckpointError: the state of the run to resume is damaged.
        CheckFailedError: the loss became NaN or infinite.
    """
    folder = Path(config.exp_dir)
    state = load_training_state(folder / STATE_FILE) if resume else None
    if state is not None:
        config = config_from_dict(
            {**json.loads(state["config"]), "exp_dir": config.exp_dir}, where=printable(folder / STATE_FILE)
        )
    elif config.amp == "auto":
        config = replace(config, amp="bf16" if has_bfloat16(config.gpus) else "none")
    processes = join_processes(config.gpus)
    try:
        if processes.is_main and state is None:
            _prepare_folder(folder, config, overwrite=overwrite)
        trainer = Trainer(config, processes)
        if state is not None:
            trainer.restore(state)
        return trainer.run()
    finally:
        leave_processes()


def _prepare_folder(folder: Path, config: TrainConfig, *, overwrite: bool) -> None:
    if (folder / STATE_FILE).exists() or (folder / "config.json").exists():
        if not overwrite:
            raise UsageError(
                f"{printable(folder)}: the folder already holds a run, expected a new folder; resume the run, "
                "overwrite it, or give another folder",
                parameter=("resume", "overwrite", "exp_dir"),
            )
        shutil.rmtree(folder)
    write_json(folder / "config.json", config.to_dict())


class Trainer:
    """One training run in one process.

    Args:
        config: all settings.
        processes: this process's rank and device.
        network: class of the network: :class:`RRID`, or a subclass that tries another head.

    Raises:
        UsageError: a setting or folder cannot be used.
        DatasetError: the dataset contradicts its layout.
        CheckpointError: the backbone weights do not fit.
    """

    def __init__(self, config: TrainConfig, processes: Processes, *, network: type[RRID] = RRID) -> None:
        self.config, self.processes = config, processes
        self.folder = Path(config.exp_dir)
        if threads := threads_within(config.threads, torch.get_num_threads()):
            torch.set_num_threads(threads)
        _seed(config.seed)
        self.dataset: Dataset = load_dataset(
            config.dataset_path,
            dataset_type=config.dataset_type,
            split=config.split,
            splits_file=config.splits_file,
            num_val=0 if config.combine_trainval else config.num_val,
            seed=config.seed,
        )
        self.sampler, self.loader = make_loader(config, self.dataset, processes)
        self.model = network(config.model, self.dataset.num_train_persons)
        load_backbone(self.model, config.backbone_weights)
        self.network = self._place(self.model)
        self.optimiser = make_optimiser(config, self.model)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=config.amp == "fp16")
        self.steps_per_epoch = math.ceil(len(self.sampler) / config.accumulate)
        self.step, self.epoch = 0, 0
        self.best_map, self.last_checkpoint = -1.0, "none yet"
        self._stop_signal: int | None = None

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

    def run(self) -> Path:
        """Train from the current step to the last epoch, or until SIGINT or SIGTERM.

        Returns:
            The best checkpoint, as for :func:`train`.

        Raises:
            CheckFailedError: the loss became NaN or infinite.
        """
        if self.processes.is_main:
            print(f"{self.dataset.name}\n{self.dataset.table()}", file=sys.stderr, flush=True)
        monitor = Monitor(self.folder, self.config.epochs * self.steps_per_epoch, enabled=self.processes.is_main)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.epoch < self.config.epochs and self._stop_signal is None:
                self._run_epoch(monitor)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            monitor.close()
        if self._stop_signal is not None and self.processes.is_main:
            print(
                f"stopped by {signal.Signals(self._stop_signal).name} at step {self.step}; resume with: "
                f"rrid-edge train --resume {printable(self.folder)}",
                file=sys.stderr,
            )
        best = self.folder / "best.safetensors"
        return best if best.exists() else self.folder / "last.safetensors"

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number

    def _run_epoch(self, monitor: Monitor) -> None:
        self.network.train()
        self.sampler.epoch = self.epoch
        self.sampler.start = (self.step - self.epoch * self.steps_per_epoch) * self.config.accumulate
        meter = StepMeter(self.config, self.processes.world)
        for group in accumulation_groups(self.loader, self.config.accumulate):
            meter.data_ready()
            terms = self._optimise(group)
            self.step += 1
            meter.step_done(terms, sum(len(persons) for _, persons in group))
            if self.step % self.config.print_freq == 0:
                position = {"epoch": self.step / self.steps_per_epoch, "lr": self.optimiser.param_groups[1]["lr"]}
                monitor.step(self.step, {**position, **meter.read()})
            if self._agreed_to_stop():
                self._save()
                return
        self.epoch += 1
        self._finish_epoch(monitor)

    def _agreed_to_stop(self) -> bool:
        """Whether any process got a signal. All processes must stop at the same step."""
        if self.processes.world > 1:
            flag = torch.tensor([self._stop_signal or 0], device=self.processes.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self._stop_signal = int(flag.item()) or None
        return self._stop_signal is not None

    def _optimise(self, group: list[Batch]) -> LossTerms:
        """Do one optimiser step on the mean gradient of the batches in ``group``; return the last batch's terms."""
        config, device = self.config, self.processes.device
        set_learning_rates(self.optimiser, config, self.step, self.steps_per_epoch)
        self.optimiser.zero_grad(set_to_none=True)
        for images, persons in group:
            with autocast(config, device):
                output = self.network(to_input(images, config, device))
            terms = rrid_loss(output, persons.to(device), margin=config.margin, label_smoothing=config.label_smoothing)
            if not torch.isfinite(terms.total):
                raise CheckFailedError(
                    f"the loss is {terms.total.item()} at step {self.step}, expected a finite number; start a new run "
                    f"with a lower lr, or with clip_grad 10 (last good checkpoint: {self.last_checkpoint})",
                    parameter=("lr", "clip_grad"),
                )
            self.scaler.scale(terms.total / len(group)).backward()  # type: ignore[no-untyped-call]
        if config.clip_grad:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return LossTerms(*(term.detach() for term in terms))

    def _finish_epoch(self, monitor: Monitor) -> None:
        config = self.config
        due = self.epoch == config.epochs or (config.val_every and self.epoch % config.val_every == 0)
        measures: dict[str, float] = {}
        if due and self.processes.is_main:
            query, gallery = self.dataset.val_query, self.dataset.val_gallery
            if not query:  # Nobody is held out, so the test split is the only one left.
                query, gallery = self.dataset.query, self.dataset.gallery
            measures = validate(self.model, config, self.processes.device, query, gallery)
            monitor.validation(self.step, self.epoch, measures)
        better = bool(measures) and measures["mAP"] > self.best_map
        if better:
            self.best_map = measures["mAP"]
        self._save(measures)
        if better and self.processes.is_main:
            save_checkpoint(self.folder / "best.safetensors", self.model, self._checkpoint(measures))

    def _checkpoint(self, measures: dict[str, float]) -> Checkpoint:
        """What a checkpoint says of the network, without its tensors."""
        return Checkpoint(
            self.config.model,
            self.model.num_persons,
            self.dataset.name,
            self.epoch,
            self.config.to_dict(),
            measures,
        )

    def _save(self, measures: dict[str, float] | None = None) -> None:
        """Write the training state, then the weights to deploy. Each file is written atomically."""
        if not self.processes.is_main:
            return
        state = {
            "config": json.dumps(self.config.to_dict()),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best_map,
            "torch_random": torch.get_rng_state(),
        }
        save_training_state(self.folder / STATE_FILE, state)
        last = self.folder / "last.safetensors"
        save_checkpoint(last, self.model, self._checkpoint(measures or {}))
        self.last_checkpoint = printable(last)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, as :func:`rrid_train.checkpoint.load_training_state` reads it."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.best_map = int(state["step"]), int(state["epoch"]), float(state["best"])
        torch.set_rng_state(state["torch_random"])
        self.last_checkpoint = printable(self.folder / "last.safetensors")


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries may still draw from the global generator
    torch.manual_seed(seed)
