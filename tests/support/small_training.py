"""A training that takes less than a second: a network with one convolution, and a run without curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rrid_edge.errors import printable
from rrid_train import loop, model, monitor, validation
from rrid_train.checkpoint import Checkpoint, load_checkpoint
from rrid_train.monitor import read_metrics
from rrid_train.settings import TrainConfig

CONFIG = TrainConfig(
    backbone="resnet18",
    height=32,
    width=32,
    stripes=(2,),
    block_width=4,
    backbone_weights="none",
    num_val=0,
    epochs=2,
    batch_size=16,
    lr=0.02,
    base_lr=0.02,
    val_every=1,
    print_freq=1,
    num_workers=0,
    threads=1,
)


class _OneConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 512, 16, 16, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(512), nn.ReLU()
        for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, nn.Identity())


def make_trainings_small(patch: pytest.MonkeyPatch) -> None:
    """Replace the backbone by one convolution, improve with every step, and draw no curves and no TensorBoard."""
    patch.setattr(model, "_backbone", lambda _name: _OneConvolution())
    patch.setattr(loop, "validate", validate)
    patch.setattr(monitor, "draw_curves", lambda _folder: None)
    patch.setattr(monitor, "_tensorboard", lambda _folder, _step: None)


def validate(network: Any, *arguments: Any, **names: Any) -> dict[str, float]:
    """Measure, but so that a later network is better: every validation of a small training finds a new best one."""
    measures = validation.validate(network, *arguments, **names)
    return {**measures, "mAP": measures["mAP"] * (1 - 0.5 / int(network.base.bn1.num_batches_tracked))}


def small_config(data: Path, run: Path, **changes: Any) -> TrainConfig:
    """Settings of a small training."""
    return dataclasses.replace(CONFIG, dataset_path=str(data), exp_dir=str(run), **changes)


def resume(folder: Path, **changes: Any) -> Path:
    """Resume the run in ``folder`` to its end, with other settings; return its checkpoint."""
    found = loop.train(TrainConfig(exp_dir=str(folder)), resume=True, changes=changes)
    assert found is not None
    return found


def assert_same_runs(found: Path, expected: Path) -> None:
    """Check that two runs ended alike: files, weights, measures and rows of progress; nothing else is left."""
    assert {path.name for path in found.iterdir()} == {path.name for path in expected.iterdir()}
    for name in ("last.safetensors", "best.safetensors"):
        if (expected / name).exists():
            _assert_same_checkpoints(load_checkpoint(found / name), load_checkpoint(expected / name))
    assert _rows(found) == _rows(expected), printable(found)


def _assert_same_checkpoints(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.state.keys() == expected.state.keys()
    assert all(torch.equal(found.state[name], expected.state[name]) for name in found.state)
    assert (found.epoch, found.metrics) == (expected.epoch, expected.metrics)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of progress without times, which differ between runs."""
    timed = {"data_ms", "step_ms", "images_per_s"}
    return [{key: value for key, value in row.items() if key not in timed} for row in read_metrics(folder)]
