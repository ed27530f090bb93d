"""Every setting of a training, declared once: its type, default, help text and limits.

``rrid-edge train`` builds its options from these declarations, and TOML files are checked against them. The module
imports neither PyTorch nor NumPy, so ``rrid-edge train --help`` needs neither.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, get_args, get_type_hints

from rrid_edge.errors import UsageError
from rrid_edge.model.spec import BACKBONES, DEFAULT_STRIPES, block_names, check_input_size
from rrid_train.setting import Setting, duration_s

DATASET_TYPES = (
    "auto",
    "rrid",
    "market1501",
    "dukemtmc",
    "cuhk03",
    "msmt17",
    "viper",
    "prid2011",
    "cuhk01",
    "folders",
)
WEIGHTS = ("auto", "ema", "raw")
AMP_MODES = ("none", "bf16", "fp16", "auto")


@dataclass(frozen=True)
class ModelConfig:
    """Backbone and sizes of the network.

    Attributes:
        backbone: torchvision name: resnet18, resnet34, resnet50, resnet101 or resnet152.
        height_px: input rows. Each number of stripes must divide the height_px / 16 rows of the feature map.
        width_px: input columns, a multiple of 16.
        stripes: number of horizontal stripes per scale, in the descriptor's order.
        block_width: values per block of the descriptor.

    Raises:
        UsageError: a value does not fit; the message names it.
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
            raise UsageError(
                f"block width {self.block_width} does not work: expected a positive number, usually 256",
                parameter="block_width",
            )
        check_input_size(self.height_px, self.width_px, self.stripes)

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the descriptor's blocks, in order."""
        return block_names(self.stripes)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; the defaults are the published recipe.

    Attributes:
        flip: probability of mirroring, in [0, 1].
        erase: probability of erasing one rectangle, in [0, 1].
        erase_area: smallest and largest area of the rectangle, as a share of the image.
        erase_aspect: smallest height / width of the rectangle; the largest is 1 / ``erase_aspect``.
    """

    flip: float = 0.5
    erase: float = 0.75
    erase_area: tuple[float, float] = (0.02, 0.2)
    erase_aspect: float = 0.3


def _share(text: str) -> Setting:
    return Setting(text, at_least=0, at_most=1)


def _machine(text: str, **limits: Any) -> Setting:  # noqa: ANN401 - fields of Setting
    return Setting(text, on_resume="machine", **limits)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training; the defaults are the published recipe (preset ``paper``).

    The help text of each field explains it; :func:`declarations` lists them all.

    Raises:
        UsageError: a value does not work; the message names it.
    """

    dataset_path: Annotated[str, _machine("Train on the dataset in this folder.")] = ""
    dataset_type: Annotated[
        str, Setting("Read the dataset in this layout; auto detects it.", choices=DATASET_TYPES)
    ] = "auto"
    split: Annotated[int, Setting("Use this split of the dataset, counted from 0.")] = 0
    splits_file: Annotated[str | None, Setting("Read the splits from this file, not splits.json.")] = None
    num_val: Annotated[float, Setting("Hold out this share of people (below 1), or this count.")] = 0.3
    combine_trainval: Annotated[
        bool, Setting("Train on everybody, or hold people out for validation.", switch="combine-trainval/hold-out")
    ] = False
    exp_dir: Annotated[str, Setting("Write checkpoints, curves and logs to this folder.")] = "runs/rrid"
    backbone: Annotated[str, Setting("Use this torchvision backbone.", choices=BACKBONES)] = "resnet50"
    height: Annotated[int, Setting("Set the input height in pixels.")] = 384
    width: Annotated[int, Setting("Set the input width in pixels.")] = 128
    stripes: Annotated[tuple[int, ...], Setting("Cut the feature map into so many stripes, per scale.")] = (
        DEFAULT_STRIPES
    )
    block_width: Annotated[int, Setting("Set the number of values per descriptor block.")] = 256
    backbone_weights: Annotated[str, Setting("Start from imagenet, none, or a file (torchvision or timm naming).")] = (
        "imagenet"
    )
    weights: Annotated[str, Setting("Take these of a backbone file; auto: ema if it has both.", choices=WEIGHTS)] = (
        "auto"
    )
    epochs: Annotated[
        int, Setting("Train so many epochs of batch_sample images per anchor.", above=0, on_resume="schedule")
    ] = 80
    batch_size: Annotated[int, Setting("Set the images per batch, over all processes.", above=0)] = 64
    batch_sample: Annotated[int, Setting("Draw so many images per anchor.", above=0)] = 4
    lr: Annotated[float, Setting("Set the learning rate of the head.", above=0)] = 1e-2
    base_lr: Annotated[float, Setting("Set the learning rate of the backbone.", above=0)] = 1e-3
    decay_schedule: Annotated[tuple[int, ...], Setting("Lower both learning rates at these epochs.")] = (40, 60)
    staircase_factor: Annotated[float, _share("Multiply both learning rates by this at those epochs.")] = 0.1
    warm_up_epochs: Annotated[
        float, Setting("Warm the rates up from a tenth for so many epochs; 0 is off.", at_least=0)
    ] = 0.0
    cosine: Annotated[
        bool, Setting("Lower the learning rates along a cosine to 0, or in steps.", switch="cosine/staircase")
    ] = False
    momentum: Annotated[float, _share("Set the momentum of SGD.")] = 0.9
    weight_decay: Annotated[float, Setting("Set the weight decay of SGD.", at_least=0)] = 5e-4
    margin: Annotated[float, Setting("Set the margin of the triplet loss.", above=0)] = 1.2
    label_smoothing: Annotated[float, _share("Smooth the labels of the cross entropies; 0 is off.")] = 0.0
    flip: Annotated[float, _share("Mirror training images with this probability.")] = 0.5
    erase: Annotated[float, _share("Apply random erasing with this probability.")] = 0.75
    accumulate: Annotated[int, Setting("Average the gradients of so many batches per step.", above=0)] = 1
    clip_grad: Annotated[float, Setting("Clip the gradient to this norm; 0 is off.", at_least=0)] = 0.0
    amp: Annotated[str, Setting("Use automatic mixed precision.", choices=AMP_MODES)] = "none"
    channels_last: Annotated[
        bool, Setting("Set the memory layout of images and weights.", switch="channels-last/channels-first")
    ] = False
    compile: Annotated[bool, Setting("Compile the network with torch.compile, or not.", switch="compile/eager")] = False
    sync_bn: Annotated[
        bool, Setting("Take batch statistics over all processes, or per process.", switch="sync-bn/local-bn")
    ] = False
    gpus: Annotated[int, _machine("Train on so many GPUs; 0 is the CPU, 2 or more need torchrun.", at_least=0)] = 0
    num_workers: Annotated[
        int,
        _machine("Decode in so many worker processes, by default one per core at most; 0: none.", at_least=0),
    ] = 4
    threads: Annotated[int, _machine("Use so many CPU threads; 0 measures which number is fastest.", at_least=0)] = 0
    val_every: Annotated[int, _machine("Validate every so many epochs; 0 only at the end.", at_least=0)] = 5
    save_every: Annotated[
        str, _machine("Save after so much time, such as 90s, 10m, 2h; 0: per epoch only.", is_duration=True)
    ] = "10m"
    print_freq: Annotated[int, _machine("Print progress every so many steps.", above=0)] = 20
    seed: Annotated[int, Setting("Seed weights, sampling and augmentation.", at_least=0)] = 0

    def __post_init__(self) -> None:
        for name, declared in declarations().items():
            declared.setting.check(name, getattr(self, name))
        if self.amp == "fp16" and self.gpus == 0:
            raise UsageError("amp fp16 needs a GPU, but training runs on the CPU (gpus 0): use bf16", parameter="amp")
        _ = self.model

    @property
    def model(self) -> ModelConfig:
        """Sizes of the network."""
        return ModelConfig(self.backbone, self.height, self.width, self.stripes, self.block_width)

    @property
    def save_every_s(self) -> int:
        """Seconds between two saves within an epoch; 0 saves at the ends of epochs only."""
        return duration_s("save_every", self.save_every)

    @property
    def augmentation(self) -> Augmentation:
        """Augmentation of training images."""
        return Augmentation(flip=self.flip, erase=self.erase)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable settings."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Declaration:
    """Type and meaning of one field of :class:`TrainConfig`, from its annotation.

    Attributes:
        kind: int, float, str, bool, ``tuple[int, ...]`` or ``str | None``.
        setting: help text and limits.
    """

    kind: Any
    setting: Setting


@functools.cache
def declarations() -> dict[str, Declaration]:
    """Every field of :class:`TrainConfig` by name, in order."""
    hints = get_type_hints(TrainConfig, include_extras=True)
    return {name: Declaration(*get_args(hint)) for name, hint in hints.items()}


def resume_settings() -> tuple[str, ...]:
    """Names of the settings that a resumed run takes, in order."""
    return tuple(name for name, declared in declarations().items() if declared.setting.on_resume)


PRESETS = {
    "paper": TrainConfig(),
    # For the demo data: a small network from random weights, about three minutes on two CPU cores.
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
        amp="auto",
        channels_last=True,
        num_workers=1,
        val_every=1,
        print_freq=20,
    ),
}
