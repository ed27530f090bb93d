"""The reports of a run: progress lines on stderr, ``metrics.jsonl``, TensorBoard, ``curves.png``."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ArtefactError, OutputError, printable, unforeseen
from rrid_edge.files import atomic_output, write_text
from rrid_edge.json_text import json_text
from rrid_edge.progress import clock_text
from rrid_train.losses import LossTerms
from rrid_train.pace import Pace
from rrid_train.run_folder import METRICS_FILE
from rrid_train.settings import TrainConfig

_ROOM: Final = 0.05
"""Share of the axis beyond 0 and 1, so that markers there are drawn whole."""


class StepMeter:
    """Means of the loss terms and of the times since the last reading.

    Args:
        config: blocks and classifiers of the network, to report losses per block and per classifier.
        world: number of training processes.
    """

    def __init__(self, config: TrainConfig, world: int) -> None:
        self._blocks = len(config.model.block_names)
        self._classifiers = 3 * sum(config.stripes) + 3 * len(config.stripes)
        self._world = world
        self._clear()
        self._waited_s = 0.0
        self._mark = time.perf_counter()

    def _clear(self) -> None:
        self._terms: list[LossTerms] = []
        self._data_s = self._step_s = 0.0
        self._images = 0

    def data_ready(self) -> None:
        """Count the time since the last call as waiting for data."""
        now = time.perf_counter()
        self._waited_s = now - self._mark
        self._data_s += self._waited_s
        self._mark = now

    def skip(self) -> None:
        """Do not count the time since the last call."""
        self._mark = time.perf_counter()

    def step_done(self, terms: LossTerms, images: int) -> float:
        """Count the time since :meth:`data_ready` as one step over ``images`` images of this process.

        Returns:
            Seconds of this step, with the wait for its data.
        """
        self._terms.append(terms)
        self._images += images
        now = time.perf_counter()
        took_s = now - self._mark
        self._step_s += took_s
        self._mark = now
        return took_s + self._waited_s

    def read(self) -> dict[str, float]:
        """Means per step since the last reading, and images per second over all processes. Starts a new reading."""
        total, triplet, cross_entropy, precision = (
            float(torch.stack(values).float().mean()) for values in zip(*self._terms, strict=True)
        )
        steps = len(self._terms)
        result = {
            "loss": total,
            "triplet": triplet / self._blocks,
            "cross_entropy": cross_entropy / self._classifiers,
            "precision": precision,
            "data_ms": self._data_s / steps * 1000,
            "step_ms": self._step_s / steps * 1000,
            "images_per_s": self._images * self._world / (self._data_s + self._step_s),
            "steps": float(steps),
        }
        self._clear()
        return result


class Monitor:
    """Writes a run's measures into its folder.

    Args:
        folder: folder of the run.
        steps: optimiser steps of the whole run, to estimate the time left.
        start: step and last validated epoch that the run goes on from. Later rows of ``metrics.jsonl`` are removed,
            because they will come again.
        enabled: True on the main process only.

    Attributes:
        has_steps: whether a step was counted.
        is_quiet: record measures, but print no lines of them. A signal handler can set it.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, steps: int, *, start: tuple[int, int] = (0, 0), enabled: bool = True) -> None:
        self._folder, self._steps, self._enabled = folder, steps, enabled
        self._told: set[str] = set()
        if enabled:
            keep_rows(folder, step=start[0], epoch=start[1])
        self._board: Any = _tensorboard(folder, start[0]) if enabled else None
        self._pace = Pace()
        self.has_steps, self.is_quiet = False, False

    def step_took(self, seconds: float, images: int) -> None:
        """Count the time of one step over ``images`` images of all processes."""
        self.has_steps = True
        self._pace.add(seconds, images)

    def progress(self, step: int) -> str:
        """How far the run is, at the pace of the last minutes, before the measures of a step are printed."""
        return (
            f"step {step}/{self._steps}  {self._pace.seconds_per_step:.2f} s per step  "
            f"{self._pace.images_per_s:.0f} img/s  {self._left(step)} left"
        )

    def _left(self, step: int) -> str:
        return clock_text(self._pace.seconds_per_step * (self._steps - step))

    def step(self, step: int, measures: dict[str, float]) -> None:
        """Report training measures: print a progress line and record them.

        Args:
            step: optimiser steps done so far.
            measures: those of :meth:`StepMeter.read`, ``epoch`` and ``lr``.
        """
        if not self._enabled:
            return
        self._record({"kind": "train", "step": step, **measures})
        if self.is_quiet:
            return
        print(
            f"epoch {measures['epoch']:.2f}  step {step}/{self._steps}  loss {measures['loss']:.2f}  "
            f"triplet {measures['triplet']:.3f}  ce {measures['cross_entropy']:.3f}  "
            f"precision {measures['precision']:.1%}  data {measures['data_ms']:.0f} ms  "
            f"step {measures['step_ms']:.0f} ms  {self._pace.images_per_s:.0f} img/s  {self._left(step)} left",
            file=sys.stderr,
            flush=True,
        )

    def validation(self, step: int, epoch: int, measures: dict[str, float]) -> None:
        """Report a validation: print a line and record ``measures`` (mAP and CMC, in [0, 1])."""
        if not self._enabled:
            return
        if not self.is_quiet:
            text = "  ".join(f"{name} {value:.4f}" for name, value in measures.items())
            print(f"epoch {epoch}  validation  {text}", file=sys.stderr, flush=True)
        self._record({"kind": "validation", "step": step, "epoch": epoch, **measures})

    def tell_once(self, line: str) -> None:
        """Print a line on stderr if it was not printed before."""
        if self._enabled and line not in self._told:
            self._told.add(line)
            print(printable(line), file=sys.stderr, flush=True)

    def _record(self, row: dict[str, Any]) -> None:
        path = self._folder / METRICS_FILE
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json_text(row) + "\n")
            if self._board is not None:
                for name, value in row.items():
                    if isinstance(value, float):
                        self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])
        except OSError as error:
            raise OutputError(
                f"{printable(path)}: cannot be written ({error.strerror or error}); free space on this file system"
            ) from error

    def draw(self, *, failed: bool = False) -> None:
        """Draw the curves so far. They are no reason to fail; arguments as for :meth:`close`."""
        try:
            if self._board is not None:
                self._board.flush()
            draw_curves(self._folder)
        except Exception as error:
            if not failed:
                self.tell_once(f"the curves could not be drawn ({unforeseen(error)})")

    def close(self, *, failed: bool = False) -> None:
        """Close TensorBoard's file and draw the curves. They are no reason to fail.

        Args:
            failed: the training ended with an error, so that this says nothing of its own.
        """
        if not self._enabled:
            return
        self.draw(failed=failed)
        if self._board is not None:
            with contextlib.suppress(Exception):
                self._board.close()


def _tensorboard(folder: Path, step: int) -> Any:  # noqa: ANN401 - an optional package
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Points of a killed run after this step are hidden: they will come again.
    return SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)


@dataclass(frozen=True)
class _Row:
    """What every row of ``metrics.jsonl`` has; the measures are further keys."""

    kind: Literal["train", "validation"]
    step: Annotated[int, Meta(ge=0)]
    epoch: Annotated[float, Meta(ge=0)] = 0


_VALUES = Artefact("row of metrics", dict[str, str | int | float], "delete the line")
_ROW = Artefact("row of metrics", _Row, "delete the line")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of ``metrics.jsonl``. Skips lines that are no row: a kill can cut off the last one."""
    path = folder / METRICS_FILE
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ArtefactError):
            row = _VALUES.parse(line, where=METRICS_FILE)
            _ROW.convert(row, where=METRICS_FILE)
            rows.append(dict(row))
    return rows


def keep_rows(folder: Path, *, step: int, epoch: int) -> None:
    """Remove the rows of ``metrics.jsonl`` that a killed run wrote after its last saved state.

    Args:
        folder: folder of the run.
        step: last step of the state.
        epoch: last epoch whose validation is in the state.

    Raises:
        OutputError: the file cannot be written.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return
    kept = [row for row in read_metrics(folder) if row["step"] <= step]
    kept = [row for row in kept if row["kind"] != "validation" or row.get("epoch", 0) <= epoch]
    text = "".join(json_text(row) + "\n" for row in kept)
    if text.encode() != path.read_bytes():
        write_text(path, text)


def draw_curves(folder: Path) -> None:
    """Draw loss, precision and validation per step into ``curves.png``; does nothing without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = read_metrics(folder)
    train = [row for row in rows if row["kind"] == "train"]
    checks = [row for row in rows if row["kind"] == "validation"]
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, quality = figure.subplots(2, 1, sharex=True)
    for name in ("triplet", "cross_entropy"):
        loss.plot(
            [row["step"] for row in train], [row[name] for row in train], label=f"{name.replace('_', ' ')} (mean)"
        )
    quality.plot([row["step"] for row in train], [row["precision"] for row in train], label="precision (training)")
    for name in ("mAP", "rank-1"):
        quality.plot(
            [row["step"] for row in checks], [row[name] for row in checks], marker="o", label=f"{name} (validation)"
        )
    loss.set_ylabel("loss per block or classifier")
    quality.set(ylabel="share", ylim=(-_ROOM, 1 + _ROOM), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1], xlabel="step")
    for axes in (loss, quality):
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the axes, where it hides nothing
        axes.grid(alpha=0.3)
    with atomic_output(folder / "curves.png") as partial:
        figure.savefig(partial, dpi=100)
