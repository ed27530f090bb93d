"""What a run tells: progress lines on stderr, ``metrics.jsonl``, TensorBoard, ``curves.png``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rrid_edge.files import atomic_output


class Monitor:
    """Writes a run's measures into its folder.

    Args:
        folder: of the run.
        steps: optimiser steps of the whole run, for the time left.
        enabled: False on all processes but the first.
    """

    def __init__(self, folder: Path, steps: int, *, enabled: bool = True) -> None:
        self._folder, self._steps, self._enabled = folder, steps, enabled
        self._board: Any = _tensorboard(folder) if enabled else None
        self._start = time.perf_counter()
        self._done_before: int | None = None

    def step(self, step: int, measures: dict[str, float]) -> None:
        """A progress line: loss, precision, data and step time, images/s, time left."""
        if not self._enabled:
            return
        if self._done_before is None:
            self._done_before = step - int(measures["steps"])
        elapsed = time.perf_counter() - self._start
        left_s = elapsed / max(1, step - self._done_before) * (self._steps - step)
        print(
            f"epoch {measures['epoch']:.2f}  step {step}/{self._steps}  loss {measures['loss']:.2f}  "
            f"triplet {measures['triplet']:.3f}  ce {measures['cross_entropy']:.3f}  precision {measures['precision']:.1%}  "
            f"data {measures['data_ms']:.0f} ms  step {measures['step_ms']:.0f} ms  {measures['images_per_s']:.0f} img/s  "
            f"{int(left_s) // 60}:{int(left_s) % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )
        self._record({"kind": "train", "step": step, **measures})

    def validation(self, step: int, epoch: int, measures: dict[str, float]) -> None:
        """A validation's result."""
        if not self._enabled:
            return
        text = "  ".join(f"{name} {value:.4f}" for name, value in measures.items())
        print(f"epoch {epoch}  validation  {text}", file=sys.stderr, flush=True)
        self._record({"kind": "validation", "step": step, "epoch": epoch, **measures})

    def _record(self, row: dict[str, Any]) -> None:
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Draw the curves and close the files."""
        if not self._enabled:
            return
        if self._board is not None:
            self._board.close()
        draw_curves(self._folder)


def _tensorboard(folder: Path) -> Any:  # noqa: ANN401 - an optional package
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "tensorboard")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of ``metrics.jsonl``; a torn last line (a kill while writing) is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def draw_curves(folder: Path) -> None:
    """Draw loss, precision and validation over the steps into ``curves.png``, where matplotlib is installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = read_metrics(folder)
    train = [row for row in rows if row["kind"] == "train"]
    checks = [row for row in rows if row["kind"] == "validation"]
    figure = Figure(figsize=(9, 6), layout="constrained")
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
    loss.set_ylabel("loss of one block or head")
    quality.set(ylabel="share", ylim=(0, 1), xlabel="step")
    for axes in (loss, quality):
        axes.legend()
        axes.grid(alpha=0.3)
    with atomic_output(folder / "curves.png") as partial:
        figure.savefig(partial, dpi=100)
