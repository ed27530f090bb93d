"""The training loop: from settings to ``best.safetensors``.

SIGINT and SIGTERM stop a run after any step. A run that was stopped or killed, at whatever moment, ends after resuming
with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from rrid_edge.errors import CheckFailedError, RridEdgeError, printable, unforeseen
from rrid_edge.ranking.measurable import measurable
from rrid_train.checkpoint import Checkpoint
from rrid_train.data.layout import Dataset, load_dataset
from rrid_train.data.loader import accumulation_groups, make_loader
from rrid_train.data.samples import labels_of
from rrid_train.data.workers import Batch
from rrid_train.distributed import Processes, join_processes, leave_processes, lost_connections
from rrid_train.model import RRID
from rrid_train.monitor import Monitor, StepMeter
from rrid_train.run_folder import BEST_FILE, LAST_FILE, RunFolder, damaged_state
from rrid_train.settings import TrainConfig
from rrid_train.stepping import Stepper
from rrid_train.validation import ValidationStoppedError, has_bfloat16, validate


def train(config: TrainConfig, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train to the last epoch, or until SIGINT or SIGTERM.

    Args:
        config: all settings. With ``resume`` only ``exp_dir`` is used; the run supplies the others.
        resume: continue the run in ``exp_dir``.
        overwrite: delete a run that is already in ``exp_dir``.

    Returns:
        ``best.safetensors`` (highest validation mAP), or ``last.safetensors`` if no validation could measure.

    Raises:
        UsageError: a setting cannot be used, a folder is missing, ``exp_dir`` holds a run already, or the machine gave
            too little memory, disk space, files or processes.
        DatasetError: the dataset contradicts its layout.
        ImageError: a training image cannot be decoded.
        CheckpointError: the state of the run to resume is damaged.
        CheckFailedError: the loss became NaN or infinite.
        OtherProcessError: another of several processes failed.
    """
    folder = RunFolder(Path(config.exp_dir))
    saved = folder.read() if resume else None
    if saved is not None:
        config = saved.config
    elif config.amp == "auto":
        config = replace(config, amp="bf16" if has_bfloat16(config.gpus) else "none")
    processes = join_processes(config.gpus)
    try:
        with lost_connections(processes):
            with processes.sharing_errors():
                if processes.is_main:
                    folder.begin(config, overwrite=overwrite) if saved is None else folder.clean()
            trainer = Trainer(config, processes)
            if saved is not None and saved.state is not None:
                trainer.restore(saved.state)
            return trainer.run()
    finally:
        leave_processes()


class Trainer(Stepper):
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
        self.folder = RunFolder(Path(config.exp_dir))
        with processes.sharing_errors():
            self.dataset: Dataset = load_dataset(
                config.dataset_path,
                dataset_type=config.dataset_type,
                split=config.split,
                splits_file=config.splits_file,
                num_val=0 if config.combine_trainval else config.num_val,
                seed=config.seed,
            )
            self.sampler, self.loader = make_loader(config, self.dataset, processes)
        super().__init__(config, processes, self.dataset.num_train_persons, network=network)
        self.steps_per_epoch = math.ceil(len(self.sampler) / config.accumulate)
        self.epoch, self.validated = 0, 0
        self._stop_signal: int | None = None
        self.best_map, self._saved_step = -1.0, 0

    def run(self) -> Path:
        """Train from the current step to the last epoch, or until SIGINT or SIGTERM.

        Returns:
            The checkpoint to use, as for :func:`train`.

        Raises:
            RridEdgeError: as for :func:`train`. If the error came between two steps, the last one is saved.
        """
        config, main = self.config, self.processes.is_main
        if main:
            print(f"{printable(self.dataset.name)}\n{self.dataset.table()}", file=sys.stderr, flush=True)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        monitor: Monitor | None = None
        failed = True
        try:
            steps = config.epochs * self.steps_per_epoch
            with self.processes.sharing_errors():
                monitor = Monitor(self.folder.path, steps, start=(self.step, self.validated), enabled=main)
            if self.epoch > self.validated:
                self._validate(monitor)
            while self.epoch < config.epochs and self._stop_signal is None:
                self._run_epoch(monitor)
            self._end(monitor)
            failed = False
        except Exception as error:
            self._save_after(error)
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if monitor is not None:
                monitor.close(failed=failed)
        return self.folder.chosen

    def _end(self, monitor: Monitor) -> None:
        """Save a run that was stopped, and say how it goes on; or say which checkpoint counts without a validation."""
        if not self.processes.is_main:
            return
        if self._stop_signal is not None and self.validated < self.config.epochs:
            if self.step > self._saved_step:
                self._save()
            monitor.tell_once(
                f"stopped by {signal.Signals(self._stop_signal).name} at step {self.step}; {self._how_to_resume()}"
            )
        elif self.folder.chosen.name != BEST_FILE:
            monitor.tell_once(f"nothing was measured: the checkpoint is that of the last epoch, {LAST_FILE}")

    def _how_to_resume(self) -> str:
        return f"resume with: rrid-edge train --resume {printable(self.folder.path)}"

    def _save_after(self, error: Exception) -> None:
        """Save the last step after an error that came between two steps, if that is possible."""
        if self._in_step or isinstance(error, CheckFailedError) or not self.processes.is_main:
            return
        if self.step == self._saved_step:
            return
        with suppress(RridEdgeError):
            self._save()
            print(f"saved at step {self.step}; {self._how_to_resume()}", file=sys.stderr, flush=True)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number

    def _run_epoch(self, monitor: Monitor) -> None:
        self.network.train()
        self.sampler.epoch = self.epoch
        self.sampler.start = (self.step - self.epoch * self.steps_per_epoch) * self.config.accumulate
        meter = StepMeter(self.config, self.processes.world)
        groups = iter(accumulation_groups(self.loader, self.config.accumulate))
        while (group := self._next_group(groups)) is not None:
            meter.data_ready()
            terms = self._optimise(group)
            self.step += 1
            self._in_step = False
            meter.step_done(terms, sum(len(persons) for _, persons in group))
            if self.step % self.config.print_freq == 0:
                position = {"epoch": self.step / self.steps_per_epoch, "lr": self.optimiser.param_groups[1]["lr"]}
                monitor.step(self.step, {**position, **meter.read()})
        if self._stop_signal is None:
            self.epoch += 1
            with self.processes.sharing_errors():
                self._save()
            self._validate(monitor)

    def _next_group(self, groups: Iterator[list[Batch]]) -> list[Batch] | None:
        """The batches of the next step; None at the end of the epoch, or if any process got a signal.

        Raises:
            RridEdgeError: a process cannot load its batches. All stop at the same step.
        """
        group, failure = None, None
        if self._stop_signal is None:
            try:
                group = next(groups, None)
            except RridEdgeError as error:
                # systemd sends SIGTERM to worker processes too.
                failure = error if self._stop_signal is None else None
        self._stop_signal = self.processes.agree(self._stop_signal, failure)
        return group if self._stop_signal is None else None

    def _validate(self, monitor: Monitor) -> None:
        """Measure the epoch that was saved last, and keep the best. What cannot be measured ends nothing."""
        config = self.config
        measures: dict[str, float] | None = {}
        due = self.epoch == config.epochs or (config.val_every and self.epoch % config.val_every == 0)
        with self.processes.sharing_errors():
            if due and self.processes.is_main:
                measures = self._measure(monitor)
            if measures is not None:
                self.validated = self.epoch
                if due:
                    self._keep(measures, monitor)
        self._stop_signal = self.processes.agree(self._stop_signal)

    def _measure(self, monitor: Monitor) -> dict[str, float] | None:
        """Measures of the network as it is; empty if it cannot be measured, None if a signal came."""
        query, gallery = self.dataset.val_query, self.dataset.val_gallery
        if not query:  # Nobody is held out, so the test split is the only one left.
            query, gallery = self.dataset.query, self.dataset.gallery
        possible = measurable(labels_of(query), labels_of(gallery))
        if not possible.ranking:
            monitor.tell_once(f"{possible.describe()}; training goes on without validation")
            return {}
        try:
            return validate(
                self.model, self.config, self.processes.device, query, gallery, stopping=lambda: bool(self._stop_signal)
            )
        except ValidationStoppedError:
            return None
        except Exception as error:
            reason = error.message if isinstance(error, RridEdgeError) else unforeseen(error)
            monitor.tell_once(f"this validation could not measure: {reason}; training goes on")
            return {}

    def _keep(self, measures: dict[str, float], monitor: Monitor) -> None:
        """Write what a validation found. The state goes last: after a kill before it, the validation runs again."""
        if not self.processes.is_main:
            return
        if measures and measures["mAP"] > self.best_map:
            self.best_map = measures["mAP"]
            self.folder.save_best(self.model, self._checkpoint(measures))
        if measures:
            monitor.validation(self.step, self.epoch, measures)
        self._save(measures)

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
        """Write the training state and the last checkpoint; the main process does it for all."""
        if not self.processes.is_main:
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "validated": self.validated,
            "best": self.best_map,
            "torch_random": torch.get_rng_state(),
        }
        self.folder.save(self.model, self._checkpoint(measures or {}), state)
        self._saved_step = self.step
        self.last_checkpoint = printable(self.folder.path / LAST_FILE)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, as :func:`rrid_train.checkpoint.load_training_state` reads it.

        Raises:
            CheckpointError: the state lacks something, or is that of another network.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            self.step, self.epoch, self.validated = (int(state[name]) for name in ("step", "epoch", "validated"))
            self.best_map = float(state["best"])
            torch.set_rng_state(state["torch_random"])
        except Exception as error:  # PyTorch raises almost anything for values of other types
            raise damaged_state(self.folder.path, unforeseen(error)) from error
        self._saved_step = self.step
        self.last_checkpoint = printable(self.folder.path / LAST_FILE)
