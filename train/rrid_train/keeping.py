"""What a training keeps in its folder while it runs, and how it takes that up again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rrid_edge.errors import CheckFailedError, RridEdgeError, UsageError, printable, unforeseen
from rrid_train.checkpoint import Checkpoint
from rrid_train.data.identity import identity_of, read_identity, refuse_another
from rrid_train.data.layout import Dataset
from rrid_train.distributed import Processes
from rrid_train.model import RRID
from rrid_train.monitor import Monitor
from rrid_train.resuming import machine_remarks, world_remark
from rrid_train.run_folder import LAST_FILE, STATE_FILE, RunFolder, Saved, damaged_state, how_to_resume
from rrid_train.schedule import epochs_remark
from rrid_train.settings import TrainConfig
from rrid_train.stepping import Stepper


class SaveTimer:
    """Says when the next save within an epoch is due.

    Args:
        every_s: seconds between two saves; 0 saves at the ends of epochs only.
        clock: a clock in seconds.
    """

    def __init__(self, every_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self.restart()

    def restart(self) -> None:
        """Count from now."""
        self._start = self._clock()

    def is_due(self) -> bool:
        """Whether so much time has passed."""
        return self._every_s > 0 and self._clock() - self._start >= self._every_s


class Keeper(Stepper):
    """A network in training, and the folder of its run.

    Args:
        config: all settings.
        processes: this process's rank and device.
        dataset: what it trains on.
        network: class of the network: :class:`RRID`, or a subclass that tries another head.
        is_fresh: take the weights of the backbone that the settings name. False if :meth:`restore` follows.

    Attributes:
        epoch: finished epochs.
        validated: last epoch whose validation ran, or was not due.
        best_map: highest validation mAP; -1 before the first.

    Raises:
        CheckpointError: the backbone weights do not fit.
    """

    def __init__(
        self, config: TrainConfig, processes: Processes, dataset: Dataset, *, network: type[RRID], is_fresh: bool
    ) -> None:
        super().__init__(config, processes, dataset.num_train_persons, network=network, is_fresh=is_fresh)
        self.folder, self.dataset = RunFolder(Path(config.exp_dir)), dataset
        self.identity = identity_of(dataset)
        self.epoch, self.validated, self.best_map = 0, 0, -1.0
        self._saved_step, self._timer = 0, SaveTimer(config.save_every_s)

    def _save(self, measures: dict[str, float] | None = None) -> None:
        """Write the last checkpoint and the training state; the main process does it for all."""
        if not self.processes.is_main:
            return
        self.folder.save(self.model, self._checkpoint(measures or {}), self._state())
        self._saved_step = self.step
        self.last_checkpoint = printable(self.folder.path / LAST_FILE)
        self._timer.restart()

    def _save_after(self, error: Exception) -> None:
        """Save the last step after an error that came between two steps, if that is possible."""
        if self._in_step or isinstance(error, CheckFailedError) or not self.processes.is_main:
            return
        if self.step == self._saved_step:
            return
        with suppress(RridEdgeError):
            self._save()
            print(f"saved at step {self.step}; {how_to_resume(self.folder.path)}", file=sys.stderr, flush=True)

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

    def _state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "validated": self.validated,
            "best": self.best_map,
            "torch_random": torch.get_rng_state(),
            "steps_per_epoch": self.steps_per_epoch,
            "processes": self.processes.world,
            "dataset": self.identity.text(),
        }

    def restore(self, saved: Saved) -> list[str]:
        """Continue from a saved state. Its settings may be others than those of this training.

        Returns:
            What is to be said about the other settings, one line each.

        Raises:
            UsageError: this is another dataset, there are fewer epochs than those done, or other steps per epoch.
            CheckpointError: the state lacks something, or is that of another network.
        """
        remarks = machine_remarks(saved.config, self.config)
        if saved.state is None:
            return [*remarks, *epochs_remark(saved.config, self.config, 0, self.steps_per_epoch)]
        self._check_dataset(saved.state)
        world, steps = self._load(saved.state)
        self._check_length(world, steps)
        if self.epoch == self.config.epochs < saved.config.epochs:
            self.validated = min(self.validated, self.epoch - 1)  # the last epoch is always validated
        self._saved_step = self.step
        self.last_checkpoint = printable(self.folder.path / LAST_FILE)
        remarks += world_remark(world, self.processes.world)
        return [*remarks, *epochs_remark(saved.config, self.config, self.step, self.steps_per_epoch)]

    def _check_dataset(self, state: dict[str, Any]) -> None:
        where = printable(self.folder.path / STATE_FILE)
        if not isinstance(state.get("dataset"), str):
            raise damaged_state(self.folder.path, "it names no dataset")
        stored = read_identity(state["dataset"], where=where)
        refuse_another(stored, self.identity, root=self.dataset.root, run=self.folder.path)
        self.identity, self.dataset = stored, replace(self.dataset, name=stored.name)

    def _load(self, state: dict[str, Any]) -> tuple[int, int]:
        """Take up a state; return its number of processes, and of steps per epoch."""
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.scaler.load_state_dict(state["scaler"])
            self.step, self.epoch, self.validated = (int(state[name]) for name in ("step", "epoch", "validated"))
            self.best_map = float(state["best"])
            torch.set_rng_state(state["torch_random"])
            return int(state["processes"]), int(state["steps_per_epoch"])
        except Exception as error:  # PyTorch raises almost anything for values of other types
            raise damaged_state(self.folder.path, unforeseen(error)) from error

    def _check_length(self, world: int, steps: int) -> None:
        """Refuse another number of steps per epoch, and an end that lies behind.

        Raises:
            UsageError: as said.
        """
        where = printable(self.folder.path)
        if self.steps_per_epoch != steps:
            raise UsageError(
                f"{where}: an epoch has {self.steps_per_epoch} steps with {self.processes.world} process(es), expected "
                f"{steps} as with {world} before; resume with as many processes as before",
                parameter="gpus",
            )
        begun = self.epoch + (self.step > self.epoch * self.steps_per_epoch)
        if self.config.epochs < begun:
            raise UsageError(
                f"{where}: epochs {self.config.epochs} does not work: expected {begun} or more, the epochs that the "
                "run has begun",
                parameter="epochs",
            )

    def keep_settings(self) -> None:
        """Write settings that a resumed run took anew, so that the next one takes them too.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.processes.is_main:
            self.folder.keep(self.config, self._state() if self._saved_step else None)
