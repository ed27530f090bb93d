"""Every setting of a training, declared once: its type, its default, its help text and its limits.

``rrid-edge train`` makes its options of these declarations, and a TOML file is checked against them. So the module
imports nothing heavy: ``rrid-edge train --help`` needs neither PyTorch nor NumPy.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, get_args, get_type_hints

from rrid_edge.errors import UsageError
from rrid_edge.model.spec import BACKBONES, DEFAULT_STRIPES, block_names, check_input_size

DATASET_TYPES = ("auto", "rrid", "market1501", "dukemtmc", "cuhk03")
AMP_MODES = ("none", "bf16", "fp16")


@dataclass(frozen=True)
class ModelConfig:
    """What the network is made of.

    Attributes:
        backbone: torchvision name, one of resnet18, resnet34, resnet50, resnet101, resnet152.
        height_px: input rows; the feature map's height/16 rows must divide into each number of stripes.
        width_px: input columns, a multiple of 16.
        stripes: horizontal stripes of each scale, in the descriptor's order.
        block_width: values of one block of the descriptor.

    Raises:
        UsageError: a value that does not fit, by name.
    """

    backbone: str = "resnet50"
    height_px: int = 384
    width_px: int = 128
    stripes: tuple[int, ...] = DEFAULT_STRIPES
    block_width: int = 256

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise UsageError(
                f"backbone {self.backbone!r} is unknown: expected one of {', '.join(BACKBONES)}", parameter="backbone"
            )
        if self.block_width < 1:
            raise UsageError(f"block width {self.block_width} does not work: expected a positive number, usually 256")
        check_input_size(self.height_px, self.width_px, self.stripes)

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the descriptor's blocks, in order."""
        return block_names(self.stripes)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image (published recipe as defaults).

    Attributes:
        flip: probability of mirroring.
        erase: probability of erasing one rectangle.
        erase_area: smallest and largest area of the rectangle, as a share of the image.
        erase_aspect: smallest height/width; the largest is its inverse.
    """

    flip: float = 0.5
    erase: float = 0.75
    erase_area: tuple[float, float] = (0.02, 0.2)
    erase_aspect: float = 0.3


@dataclass(frozen=True)
class Setting:
    """What a field of :class:`TrainConfig` means, and which values it takes.

    Attributes:
        help: one line for ``--help``, without the default and without the choices.
        choices: the only values, where there are few.
        above: every value is greater.
        at_least: smallest value.
        at_most: largest value.
        switch: the two options of a switch, on and off, for example ``cosine/staircase``; empty for other fields.
    """

    help: str
    choices: tuple[str, ...] = ()
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    switch: str = ""

    def check(self, name: str, value: Any) -> None:  # noqa: ANN401 - any field's value
        """Refuse a value outside the limits.

        Raises:
            UsageError: by the field's ``name``.
        """
        if self.choices and value not in self.choices:
            raise UsageError(f"{name} {value!r} is unknown: expected one of {', '.join(self.choices)}", parameter=name)
        expected = ""
        if self.above is not None and not value > self.above:
            expected = f"a number above {self.above:g}"
        elif self.at_least is not None and self.at_most is not None and not self.at_least <= value <= self.at_most:
            expected = f"a number from {self.at_least:g} to {self.at_most:g}"
        elif self.at_least is not None and not value >= self.at_least:
            expected = f"{self.at_least:g} or more"
        if expected:
            raise UsageError(f"{name} {value} does not work: expected {expected}", parameter=name)


def _share(text: str) -> Setting:
    return Setting(text, at_least=0, at_most=1)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training; the defaults are the published recipe (preset ``paper``).

    The help text of each field says what it is; :func:`declarations` gives them all.

    Raises:
        UsageError: a value that does not work, by name.
    """

    dataset_path: Annotated[str, Setting("Folder of the dataset.")] = ""
    dataset_type: Annotated[str, Setting("Layout of that folder; auto looks.", choices=DATASET_TYPES)] = "auto"
    split: Annotated[int, Setting("Split of the dataset, counted from 0.")] = 0
    splits_file: Annotated[str | None, Setting("File name of the splits, if not splits.json.")] = None
    num_val: Annotated[float, Setting("People held out for validation: a share below 1, or a count.")] = 0.3
    combine_trainval: Annotated[
        bool, Setting("Train on the people held out for validation too.", switch="combine-trainval/hold-out")
    ] = False
    exp_dir: Annotated[str, Setting("Folder of the run: checkpoints, curves, logs.")] = "runs/rrid"
    backbone: Annotated[str, Setting("torchvision name of the backbone.", choices=BACKBONES)] = "resnet50"
    height: Annotated[int, Setting("Input rows in pixels.")] = 384
    width: Annotated[int, Setting("Input columns in pixels.")] = 128
    stripes: Annotated[tuple[int, ...], Setting("Horizontal stripes of each scale.")] = DEFAULT_STRIPES
    block_width: Annotated[int, Setting("Values of one descriptor block.")] = 256
    backbone_weights: Annotated[str, Setting("imagenet, none, or a file in torchvision naming.")] = "imagenet"
    epochs: Annotated[int, Setting("Epochs; each draws batch_sample images per anchor.", above=0)] = 80
    batch_size: Annotated[int, Setting("Images per batch, over all processes.", above=0)] = 64
    batch_sample: Annotated[int, Setting("Images per person in a batch.", above=0)] = 4
    lr: Annotated[float, Setting("Learning rate of the head.", above=0)] = 1e-2
    base_lr: Annotated[float, Setting("Learning rate of the backbone.", above=0)] = 1e-3
    decay_schedule: Annotated[tuple[int, ...], Setting("Epochs after which both rates fall.")] = (40, 60)
    staircase_factor: Annotated[float, _share("Factor of both rates at each such epoch.")] = 0.1
    warm_up_epochs: Annotated[float, Setting("Epochs of linear rise from a tenth; 0 is off.", at_least=0)] = 0.0
    cosine: Annotated[bool, Setting("Lower the rates along a cosine to 0, or by steps.", switch="cosine/staircase")] = (
        False
    )
    momentum: Annotated[float, _share("Momentum of SGD.")] = 0.9
    weight_decay: Annotated[float, Setting("Weight decay of SGD.", at_least=0)] = 5e-4
    margin: Annotated[float, Setting("Margin of the triplet loss.", above=0)] = 1.2
    label_smoothing: Annotated[float, _share("Label smoothing of the cross entropies; 0 is off.")] = 0.0
    flip: Annotated[float, _share("Probability of mirroring a training image.")] = 0.5
    erase: Annotated[float, _share("Probability of random erasing.")] = 0.75
    accumulate: Annotated[int, Setting("Batches per optimiser step; their gradients are averaged.", above=0)] = 1
    clip_grad: Annotated[float, Setting("Largest gradient norm; 0 is off.", at_least=0)] = 0.0
    amp: Annotated[str, Setting("Automatic mixed precision.", choices=AMP_MODES)] = "none"
    channels_last: Annotated[
        bool, Setting("Memory layout of images and weights.", switch="channels-last/channels-first")
    ] = False
    compile: Annotated[bool, Setting("Compile the network with torch.compile.", switch="compile/eager")] = False
    sync_bn: Annotated[
        bool, Setting("Take batch statistics over all processes, or each alone.", switch="sync-bn/local-bn")
    ] = False
    gpus: Annotated[int, Setting("GPUs; 0 is the CPU; more than 1 needs torchrun.", at_least=0)] = 0
    num_workers: Annotated[
        int, Setting("Processes that decode images; 0 decodes in the training process.", at_least=0)
    ] = 4
    threads: Annotated[int, Setting("CPU threads; 0 leaves it to PyTorch.", at_least=0)] = 0
    val_every: Annotated[int, Setting("Epochs between validations; 0 validates at the end only.", at_least=0)] = 5
    print_freq: Annotated[int, Setting("Steps between progress lines.", above=0)] = 20
    seed: Annotated[int, Setting("Seed of weights, sampling and augmentation.", at_least=0)] = 0

    def __post_init__(self) -> None:
        for name, declared in declarations().items():
            declared.setting.check(name, getattr(self, name))
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


@dataclass(frozen=True)
class Declaration:
    """One field of :class:`TrainConfig`, read off its annotation.

    Attributes:
        kind: its type: int, float, str, bool, ``tuple[int, ...]`` or ``str | None``.
        setting: what it means.
    """

    kind: Any
    setting: Setting


@functools.cache
def declarations() -> dict[str, Declaration]:
    """Every field of :class:`TrainConfig` by name, in order."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    return {name: Declaration(*get_args(hint)) for name, hint in hints.items()}


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
