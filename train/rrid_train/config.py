"""Every setting of a training, in one frozen record, with two presets."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.spec import DEFAULT_STRIPES
from rrid_train.data.transforms import Augmentation
from rrid_train.model import ModelConfig

AMP_MODES = ("none", "bf16", "fp16")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training; the defaults are the published recipe (preset ``paper``).

    Attributes:
        dataset_path: folder of the dataset.
        dataset_type: layout of that folder; ``auto`` looks.
        split: which split of the dataset.
        splits_file: another name than ``splits.json``, or None.
        num_val: identities held out for validation: a share below 1, or a count.
        combine_trainval: train on the held-out identities too.
        exp_dir: folder of the run: checkpoints, curves, logs.
        backbone: torchvision name.
        height: input rows in pixels.
        width: input columns in pixels.
        stripes: horizontal stripes of each scale.
        block_width: values of one descriptor block.
        backbone_weights: ``imagenet``, ``none`` or a file in torchvision naming.
        epochs: passes over the anchors; each draws ``batch_sample`` images an anchor.
        batch_size: images a step, over all processes.
        batch_sample: images drawn for one anchor identity.
        lr: learning rate of the head.
        base_lr: learning rate of the backbone.
        decay_schedule: epochs after which both rates fall.
        staircase_factor: what they are multiplied by there.
        warm_up_epochs: epochs (fractions allowed) of linear rise from a tenth; 0 is off.
        cosine: fall along a cosine to 0 instead of by steps.
        momentum: of SGD.
        weight_decay: of SGD.
        margin: of the triplet loss.
        label_smoothing: of the cross entropies; 0 is off.
        flip: probability of mirroring a training image.
        erase: probability of random erasing.
        accumulate: batches whose gradients are averaged before a step.
        clip_grad: largest gradient norm; 0 is off.
        amp: automatic mixed precision: ``none``, ``bf16`` or ``fp16``.
        channels_last: memory layout that fast convolutions like.
        compile: compile the network with ``torch.compile``.
        sync_bn: batch statistics over all processes.
        gpus: GPUs of this process's machine; 0 trains on the CPU. More than one needs ``torchrun``.
        num_workers: processes that decode images; 0 decodes in the training process.
        threads: CPU threads; 0 leaves it to PyTorch.
        val_every: epochs between validations; 0 validates after the last one only.
        print_freq: steps between progress lines.
        seed: of weights, sampling and augmentation.

    Raises:
        UsageError: a value that does not work, by name.
    """

    dataset_path: str = ""
    dataset_type: str = "auto"
    split: int = 0
    splits_file: str | None = None
    num_val: float = 0.3
    combine_trainval: bool = False
    exp_dir: str = "runs/rrid"
    backbone: str = "resnet50"
    height: int = 384
    width: int = 128
    stripes: tuple[int, ...] = DEFAULT_STRIPES
    block_width: int = 256
    backbone_weights: str = "imagenet"
    epochs: int = 80
    batch_size: int = 64
    batch_sample: int = 4
    lr: float = 1e-2
    base_lr: float = 1e-3
    decay_schedule: tuple[int, ...] = (40, 60)
    staircase_factor: float = 0.1
    warm_up_epochs: float = 0.0
    cosine: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    margin: float = 1.2
    label_smoothing: float = 0.0
    flip: float = 0.5
    erase: float = 0.75
    accumulate: int = 1
    clip_grad: float = 0.0
    amp: str = "none"
    channels_last: bool = False
    compile: bool = False
    sync_bn: bool = False
    gpus: int = 0
    num_workers: int = 4
    threads: int = 0
    val_every: int = 5
    print_freq: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "batch_sample", "lr", "base_lr", "accumulate", "print_freq", "margin")
        for name in positive:
            if not getattr(self, name) > 0:
                raise UsageError(
                    f"{name} {getattr(self, name)} does not work: expected a number above 0", parameter=name
                )
        for name in (
            "num_workers",
            "threads",
            "gpus",
            "val_every",
            "clip_grad",
            "warm_up_epochs",
            "weight_decay",
            "seed",
        ):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} {getattr(self, name)} does not work: expected 0 or more", parameter=name)
        for name in ("momentum", "label_smoothing", "flip", "erase", "staircase_factor"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f"{name} {getattr(self, name)} does not work: expected a number from 0 to 1", parameter=name
                )
        if self.amp not in AMP_MODES:
            raise UsageError(f"amp {self.amp!r} is unknown: expected one of {', '.join(AMP_MODES)}", parameter="amp")
        if self.amp == "fp16" and self.gpus == 0:
            raise UsageError("amp fp16 needs a GPU: take bf16 on a CPU", parameter="amp")
        _ = self.model

    @property
    def model(self) -> ModelConfig:
        """Sizes of the network."""
        return ModelConfig(self.backbone, self.height, self.width, self.stripes, self.block_width)

    @property
    def augmentation(self) -> Augmentation:
        """What happens to training images."""
        return Augmentation(flip=self.flip, erase=self.erase)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable settings."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


PRESETS = {
    "paper": TrainConfig(),
    # Drawn people on two CPU cores: a small network from random weights, in about three minutes.
    "demo": TrainConfig(
        exp_dir="runs/demo",
        backbone="resnet18",
        height=192,
        width=64,
        block_width=64,
        backbone_weights="none",
        num_val=0.1,
        epochs=2,
        batch_size=32,
        lr=2e-2,
        base_lr=2e-2,
        warm_up_epochs=0.2,
        cosine=True,
        erase=0.5,
        amp="bf16",
        channels_last=True,
        num_workers=1,
        val_every=1,
        print_freq=20,
    ),
}


def make_config(preset: str, file: Path | None, flags: Mapping[str, object]) -> TrainConfig:
    """A preset, a TOML file over it, flags over both.

    Args:
        preset: ``paper`` or ``demo``.
        file: TOML file with fields of :class:`TrainConfig` at its top level, or None.
        flags: fields given on the command line; None means not given.

    Raises:
        UsageError: an unknown preset, field or value.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is unknown: expected one of {', '.join(PRESETS)}", parameter="preset")
    values = _read_toml(file) if file else {}
    values.update({name: value for name, value in flags.items() if value is not None})
    return config_from_dict(values, base=PRESETS[preset], where=printable(file) if file else "the command line")


def config_from_dict(values: Mapping[str, Any], *, base: TrainConfig | None = None, where: str) -> TrainConfig:
    """Settings from plain values, as a TOML file or a checkpoint holds them.

    Raises:
        UsageError: an unknown field, or a value of the wrong type.
    """
    base = base or TrainConfig()
    known = {item.name: getattr(base, item.name) for item in fields(TrainConfig)}
    converted: dict[str, Any] = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in known:
            raise UsageError(f"{where}: the setting {name!r} is unknown; rrid-edge train --help lists all of them")
        converted[key] = _converted(key, value, known[key], where)
    return dataclasses.replace(base, **converted)


def _converted(name: str, value: object, example: object, where: str) -> object:
    if isinstance(example, tuple):
        if isinstance(value, (list, tuple)) and all(isinstance(item, int) for item in value):
            return tuple(value)
    elif example is None or value is None:
        if name == "splits_file" and (value is None or isinstance(value, str)):
            return value
    elif isinstance(example, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif type(value) is type(example) or (name == "splits_file" and isinstance(value, str)):
        return value
    kind = "a list of whole numbers" if isinstance(example, tuple) else type(example).__name__
    raise UsageError(f"{where}: {name} = {value!r} does not work: expected {kind}")


def _read_toml(file: Path) -> dict[str, Any]:
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values: dict[str, Any] = toml.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{printable(file)}: no such configuration file") from error
    except ValueError as error:  # wrong TOML, or no UTF-8
        raise UsageError(f"{printable(file)}: wrong TOML ({error})") from error
    return values
