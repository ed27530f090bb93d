"""The training loop: from settings to ``best.safetensors``; it can be stopped at any step and resumed exactly."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from rrid_edge.errors import CheckFailedError, UsageError, printable
from rrid_edge.files import write_json
from rrid_train.checkpoint import (
    Checkpoint,
    load_training_state,
    save_checkpoint,
    save_training_state,
)
from rrid_train.config import config_from_dict
from rrid_train.data.layout import Dataset, load_dataset
from rrid_train.data.sampler import PersonSampler
from rrid_train.data.transforms import TrainingImages
from rrid_train.distributed import Processes, join_processes, leave_processes
from rrid_train.losses import LossTerms, rrid_loss
from rrid_train.model import RRID
from rrid_train.monitor import Monitor
from rrid_train.schedule import rate_factor
from rrid_train.settings import TrainConfig
from rrid_train.validation import autocast, to_input, validate
from rrid_train.weights import load_backbone

STATE_FILE = "last.state.pt"


def train(config: TrainConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train to the end, or until a signal stops it.

    Args:
        config: all settings; with ``resume`` only ``exp_dir`` counts, the rest comes from the run.
        resume: go on with the run in ``exp_dir``.
        overwrite: remove a run that is already in ``exp_dir``.

    Returns:
        The best checkpoint so far: ``best.safetensors`` where a validation was made, else ``last.safetensors``.

    Raises:
        UsageError: settings or folders that do not fit.
        DatasetError: the dataset contradicts itself.
        CheckFailedError: the loss is no finite number any more.
    """
    folder = Path(config.exp_dir)
    state = load_training_state(folder / STATE_FILE) if resume else None
    if state is not None:
        config = config_from_dict(
            {**json.loads(state["config"]), "exp_dir": config.exp_dir}, where=printable(folder / STATE_FILE)
        )
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
                f"{printable(folder)}: a run is already there; resume it, overwrite it, or name another folder",
                parameter=("resume", "overwrite", "exp_dir"),
            )
        shutil.rmtree(folder)
    write_json(folder / "config.json", config.to_dict())


class Trainer:
    """One run.

    Args:
        config: all settings.
        processes: this process among those that train.
        network: class of the network: :class:`RRID`, or one derived from it to try another head.
    """

    def __init__(self, config: TrainConfig, processes: Processes, *, network: type[RRID] = RRID) -> None:
        self.config, self.processes = config, processes
        self.folder = Path(config.exp_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        _seed(config.seed)
        self.dataset: Dataset = load_dataset(
            config.dataset_path,
            dataset_type=config.dataset_type,
            split=config.split,
            splits_file=config.splits_file,
            num_val=config.num_val,
            combine_trainval=config.combine_trainval,
            seed=config.seed,
        )
        self.sampler, self.loader = _loader(config, self.dataset, processes)
        self.model = network(config.model, self.dataset.num_train_persons)
        load_backbone(self.model, config.backbone_weights)
        self.network = self._place(self.model)
        self.optimiser = _optimiser(config, self.model)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=config.amp == "fp16")
        self.steps_per_epoch = math.ceil(len(self.sampler) / config.accumulate)
        self.step, self.epoch, self.best, self.good = 0, 0, -1.0, "none yet"
        self._stop: int | None = None

    def _place(self, model: RRID) -> nn.Module:
        """The network on its device, in its memory layout, compiled and distributed as the settings say."""
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
        """Train from the present step to the end or to a signal; returns the best checkpoint."""
        if self.processes.is_main:
            print(f"{self.dataset.name}\n{self.dataset.table()}", file=sys.stderr, flush=True)
        monitor = Monitor(self.folder, self.config.epochs * self.steps_per_epoch, enabled=self.processes.is_main)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.epoch < self.config.epochs and self._stop is None:
                self._run_epoch(monitor)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            monitor.close()
        if self._stop is not None and self.processes.is_main:
            print(
                f"stopped by {signal.Signals(self._stop).name} at step {self.step}; go on with: rrid-edge train --resume "
                f"{printable(self.folder)}",
                file=sys.stderr,
            )
        best = self.folder / "best.safetensors"
        return best if best.exists() else self.folder / "last.safetensors"

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop = number

    def _run_epoch(self, monitor: Monitor) -> None:
        self.network.train()
        self.sampler.epoch = self.epoch
        self.sampler.start = (self.step - self.epoch * self.steps_per_epoch) * self.config.accumulate
        gauge = _Gauge()
        for group in _groups(self.loader, self.config.accumulate):
            gauge.data_ready()
            terms = self._optimise(group)
            self.step += 1
            gauge.step_done(terms, sum(len(persons) for _, persons in group))
            if self.step % self.config.print_freq == 0:
                monitor.step(self.step, gauge.measures(self))
            if self._agreed_to_stop():
                self._save()
                return
        self.epoch += 1
        self._finish_epoch(monitor)

    def _agreed_to_stop(self) -> bool:
        """Whether any process got a signal: all of them must leave at the same step."""
        if self.processes.world > 1:
            flag = torch.tensor([self._stop or 0], device=self.processes.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self._stop = int(flag.item()) or None
        return self._stop is not None

    def _optimise(self, group: list[tuple[Tensor, Tensor]]) -> LossTerms:
        """One optimiser step on the averaged gradients of ``group``'s batches; returns the last batch's terms."""
        config, device = self.config, self.processes.device
        factor = rate_factor(config, self.step, self.steps_per_epoch)
        for parameters, rate in zip(self.optimiser.param_groups, (config.base_lr, config.lr), strict=True):
            parameters["lr"] = rate * factor
        self.optimiser.zero_grad(set_to_none=True)
        for images, persons in group:
            with autocast(config, device):
                output = self.network(to_input(images, config, device))
            terms = rrid_loss(output, persons.to(device), margin=config.margin, label_smoothing=config.label_smoothing)
            if not torch.isfinite(terms.total):
                raise CheckFailedError(
                    f"the loss is {terms.total.item()} at step {self.step}; the last good checkpoint is {self.good}: "
                    "go on from it with a lower lr, or with clip_grad 10",
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
            if not query:  # trained on everybody: the test split is what is left to look at
                query, gallery = self.dataset.query, self.dataset.gallery
            measures = validate(self.model, config, self.processes.device, query, gallery)
            monitor.validation(self.step, self.epoch, measures)
        better = bool(measures) and measures["mAP"] > self.best
        if better:
            self.best = measures["mAP"]
        self._save(measures)
        if better and self.processes.is_main:
            save_checkpoint(self.folder / "best.safetensors", self.model, self._facts(measures))

    def _facts(self, measures: dict[str, float]) -> Checkpoint:
        return Checkpoint(
            self.config.model,
            self.model.num_persons,
            self.dataset.name,
            self.epoch,
            self.config.to_dict(),
            measures,
        )

    def _save(self, measures: dict[str, float] | None = None) -> None:
        """Write what a resumed run needs (one file, whole or not at all), then the deployable weights."""
        if not self.processes.is_main:
            return
        state = {
            "config": json.dumps(self.config.to_dict()),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best,
            "torch_random": torch.get_rng_state(),
        }
        save_training_state(self.folder / STATE_FILE, state)
        last = self.folder / "last.safetensors"
        save_checkpoint(last, self.model, self._facts(measures or {}))
        self.good = printable(last)

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where a saved run stood."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.best = int(state["step"]), int(state["epoch"]), float(state["best"])
        torch.set_rng_state(state["torch_random"])
        self.good = printable(self.folder / "last.safetensors")


class _Gauge:
    """Means of loss terms and times since the last progress line."""

    def __init__(self) -> None:
        self._clear()
        self._mark = time.perf_counter()

    def _clear(self) -> None:
        self._terms: list[LossTerms] = []
        self._data_s = self._step_s = 0.0
        self._images = 0

    def data_ready(self) -> None:
        now = time.perf_counter()
        self._data_s += now - self._mark
        self._mark = now

    def step_done(self, terms: LossTerms, images: int) -> None:
        self._terms.append(terms)
        self._images += images
        now = time.perf_counter()
        self._step_s += now - self._mark
        self._mark = now

    def measures(self, trainer: Trainer) -> dict[str, float]:
        means = [float(torch.stack(values).float().mean()) for values in zip(*self._terms, strict=True)]
        names = trainer.config.model.block_names
        heads = 3 * sum(trainer.config.stripes) + 3 * len(trainer.config.stripes)
        steps = len(self._terms)
        result = {
            "epoch": trainer.step / trainer.steps_per_epoch,
            "loss": means[0],
            "triplet": means[1] / len(names),
            "cross_entropy": means[2] / heads,
            "precision": means[3],
            "data_ms": self._data_s / steps * 1000,
            "step_ms": self._step_s / steps * 1000,
            "images_per_s": self._images * trainer.processes.world / (self._data_s + self._step_s),
            "lr": float(trainer.optimiser.param_groups[1]["lr"]),
            "steps": float(steps),
        }
        self._clear()
        return result


def _groups(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterable[list[tuple[Tensor, Tensor]]]:
    """Consecutive batches whose gradients are averaged; the last group of an epoch may be smaller."""
    group: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries may still draw from the global generator
    torch.manual_seed(seed)


def _optimiser(config: TrainConfig, model: RRID) -> torch.optim.SGD:
    groups = [
        {"params": list(model.backbone_parameters()), "lr": config.base_lr},
        {"params": list(model.head_parameters()), "lr": config.lr},
    ]
    return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def _loader(
    config: TrainConfig, dataset: Dataset, processes: Processes
) -> tuple[PersonSampler, DataLoader[tuple[Tensor, Tensor]]]:
    persons = [sample.person for sample in dataset.train]
    sampler = PersonSampler(
        persons,
        batch_size=config.batch_size,
        images_per_person=config.batch_sample,
        seed=config.seed,
        rank=processes.rank,
        world=processes.world,
    )
    images = TrainingImages(
        [sample.path for sample in dataset.train],
        persons,
        height_px=config.height,
        width_px=config.width,
        augmentation=config.augmentation,
        seed=config.seed,
    )
    loader: DataLoader[Any] = DataLoader(
        images,
        batch_sampler=sampler,
        num_workers=config.num_workers,
        pin_memory=processes.device.type == "cuda",
        prefetch_factor=4 if config.num_workers else None,
    )
    return sampler, loader
