"""The training loop: from settings to ``best.safetensors``.

SIGINT and SIGTERM stop a run after any step. A run that was stopped or killed, at whatever moment, ends after resuming
with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from rrid_edge.errors import RridEdgeError, printable, unforeseen
from rrid_edge.ranking.measurable import measurable
from rrid_edge.stopping import kept_if_stopped, stopped_and_told
from rrid_train.data.layout import load_dataset
from rrid_train.data.loader import accumulation_groups, make_loader
from rrid_train.data.samples import labels_of
from rrid_train.data.workers import Batch
from rrid_train.distributed import Processes, join_processes, leave_processes, lost_connections
from rrid_train.keeping import Keeper
from rrid_train.model import RRID
from rrid_train.monitor import Monitor, StepMeter
from rrid_train.pace import Waiting
from rrid_train.resuming import resumed_config
from rrid_train.run_folder import BEST_FILE, LAST_FILE, RunFolder, Saved, how_to_resume
from rrid_train.settings import TrainConfig
from rrid_train.threads import with_threads
from rrid_train.validation import ValidationStoppedError, has_bfloat16, validate


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    changes: Mapping[str, Any] | None = None,
    waiting: Waiting | None = None,
) -> Path | None:
    """Train to the last epoch, or until SIGINT or SIGTERM.

    Args:
        config: all settings. With ``resume`` only ``exp_dir`` is used; the run supplies the others.
        resume: continue the run in ``exp_dir``.
        overwrite: delete a run that is already in ``exp_dir``.
        changes: with ``resume``, new values of :func:`rrid_train.settings.resume_settings`. The run keeps them.
        waiting: says what the training is doing where nothing else is printed; a new one if None.

    Returns:
        ``best.safetensors`` (highest validation mAP), or ``last.safetensors`` if no validation could measure. None if
        SIGTERM stopped the run before its end.

    Raises:
        KeyboardInterrupt: SIGINT stopped the run. It is saved.
        UsageError: a setting cannot be used, a folder is missing, ``exp_dir`` holds a run already, the dataset is not
            that of the run, or the machine gave too little memory, disk space, files or processes.
        DatasetError: the dataset contradicts its layout.
        ImageError: a training image cannot be decoded.
        CheckpointError: the state of the run to resume is damaged.
        CheckFailedError: the loss became NaN or infinite.
        OtherProcessError: another of several processes failed.
    """
    folder = RunFolder(Path(config.exp_dir))
    saved = folder.read() if resume else None
    if saved is not None:
        config = resumed_config(saved.config, changes or {})
    elif config.amp == "auto":
        config = replace(config, amp="bf16" if has_bfloat16(config.gpus) else "none")
    if waiting is not None:
        waiting.what = "waiting for the other processes"
    processes = join_processes(config.gpus)
    try:
        with lost_connections(processes), waiting or Waiting(enabled=processes.is_main) as waiting:
            waiting.what = "measuring the best number of threads"
            config = with_threads(config, processes)
            with processes.sharing_errors():
                if processes.is_main:
                    folder.begin(config, overwrite=overwrite) if saved is None else folder.clean()
            with folder.undone_if_refused(), kept_if_stopped(folder.told_if_stopped if processes.is_main else str):
                trainer = _prepared(config, processes, saved, waiting)
            with processes.sharing_errors():
                folder.replace_earlier()
            return trainer.run()
    finally:
        leave_processes()


def _prepared(config: TrainConfig, processes: Processes, saved: Saved | None, waiting: Waiting) -> Trainer:
    """A training that is ready to run: a new one, or one that goes on where it was saved."""
    trainer = Trainer(config, processes, is_fresh=saved is None or saved.state is None, waiting=waiting)
    if saved is not None:
        with processes.sharing_errors():
            remarks = trainer.restore(saved)
            if config != saved.config:
                trainer.keep_settings()
        for remark in remarks if processes.is_main else ():
            print(printable(remark), file=sys.stderr, flush=True)
    return trainer


class Trainer(Keeper):
    """One training run in one process.

    Args:
        config: all settings.
        processes: this process's rank and device.
        network: class of the network: :class:`RRID`, or a subclass that tries another head.
        is_fresh: take the weights of the backbone that the settings name. False if :meth:`restore` follows.
        waiting: says what the training is doing where nothing else is printed; silent if None.

    Raises:
        UsageError: a setting or folder cannot be used.
        DatasetError: the dataset contradicts its layout.
        CheckpointError: the backbone weights do not fit.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        *,
        network: type[RRID] = RRID,
        is_fresh: bool = True,
        waiting: Waiting | None = None,
    ) -> None:
        self.waiting = waiting or Waiting(enabled=False)
        self.waiting.what = "reading the dataset"
        with processes.sharing_errors():
            dataset = load_dataset(
                config.dataset_path,
                dataset_type=config.dataset_type,
                split=config.split,
                splits_file=config.splits_file,
                num_val=0 if config.combine_trainval else config.num_val,
                seed=config.seed,
            )
            self.sampler, self.loader = make_loader(config, dataset, processes)
        self.waiting.what = "building the network"
        super().__init__(config, processes, dataset, network=network, is_fresh=is_fresh)
        self.steps_per_epoch = math.ceil(len(self.sampler) / config.accumulate)
        self._stop_signal: int | None = None
        self._monitor: Monitor | None = None

    def run(self) -> Path | None:
        """Train from the current step to the last epoch, or until SIGINT or SIGTERM.

        Returns:
            The checkpoint to use, or None; as for :func:`train`.

        Raises:
            KeyboardInterrupt: SIGINT stopped the run. It is saved.
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
            self._monitor = monitor
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
            self.waiting.end()
            if monitor is not None:
                monitor.close(failed=failed)
            for number, handler in previous.items():  # last: Ctrl-C while curves are drawn must not hide the result
                signal.signal(number, handler)
        if not self._is_stopped:
            return self.folder.chosen
        if self._stop_signal == signal.SIGINT:
            raise stopped_and_told(KeyboardInterrupt())
        return None

    @property
    def _is_stopped(self) -> bool:
        """Whether a signal stopped the run before its end."""
        return self._stop_signal is not None and self.validated < self.config.epochs

    def _end(self, monitor: Monitor) -> None:
        """Save a run that was stopped, and say how it goes on; or say which checkpoint counts without a validation."""
        if not self.processes.is_main:
            return
        if self._is_stopped and self._stop_signal is not None:
            if self.step > self._saved_step:
                self._save()
            name = signal.Signals(self._stop_signal).name
            monitor.tell_once(f"stopped by {name} at step {self.step}; {how_to_resume(self.folder.path)}")
        elif self.folder.chosen.name != BEST_FILE:
            monitor.tell_once(f"nothing was measured: the checkpoint is that of the last epoch, {LAST_FILE}")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number
        self.waiting.is_quiet = True
        if self._monitor is not None:
            self._monitor.is_quiet = True

    def _run_epoch(self, monitor: Monitor) -> None:
        self.network.train()
        self.sampler.epoch = self.epoch
        self.sampler.start = (self.step - self.epoch * self.steps_per_epoch) * self.config.accumulate
        self.waiting.what = "waiting for the first images"
        meter = StepMeter(self.config, self.processes.world)
        groups = iter(accumulation_groups(self.loader, self.config.accumulate))
        while (group := self._next_group(groups, meter, monitor)) is not None:
            meter.data_ready()
            if not monitor.has_steps:
                compiling = " (torch.compile compiles the network)" if self.config.compile else ""
                self.waiting.what = f"computing the first step{compiling}"
            terms = self._optimise(group)
            self.step += 1
            self._in_step = False
            images = sum(len(persons) for _, persons in group)
            monitor.step_took(meter.step_done(terms, images), images * self.processes.world)
            self.waiting.what = monitor.progress(self.step)
            if self.step % self.config.print_freq == 0:
                position = {"epoch": self.step / self.steps_per_epoch, "lr": self.optimiser.param_groups[1]["lr"]}
                monitor.step(self.step, {**position, **meter.read()})
                self.waiting.told()
        if self._stop_signal is None:
            self.epoch += 1
            with self.processes.sharing_errors():
                self._save()
            self._validate(monitor)

    def _next_group(self, groups: Iterator[list[Batch]], meter: StepMeter, monitor: Monitor) -> list[Batch] | None:
        """The batches of the next step; None at the end of the epoch, or if any process got a signal.

        Before that, the main process saves if it is time to. The others need not know: they wait in the next step.

        Raises:
            RridEdgeError: a process cannot load its batches, or the main process cannot save. All stop at the same
                step.
        """
        group, failure = None, None
        if self._stop_signal is None:
            try:
                if self.processes.is_main and self.step > self._saved_step and self._timer.is_due():
                    self._save()
                    monitor.draw()
                    meter.skip()
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
                self.waiting.what = f"validating epoch {self.epoch}"
                measures = self._measure(monitor)
            if measures is not None:
                self.validated = self.epoch
                if due:
                    self._keep(measures, monitor)
                    self.waiting.told()
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
