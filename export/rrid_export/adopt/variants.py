"""The usual ways to feed a re-ID network, where neither its file nor the caller says which one is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import isclose
from typing import Final

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.preprocessing import COLORS, Preprocessing
from rrid_edge.model.spec import IMAGENET_MEAN, IMAGENET_STD
from rrid_export.adopt.facts import Choices, Facts, fixed_sides, layout_of, resolve, size_of, with_preset
from rrid_export.adopt.foreign import ForeignNetwork
from rrid_export.adopt.presets import PRESETS

Channels = tuple[float, float, float]

SIZES: Final = ((256, 128), (384, 128), (224, 224), (160, 64), (128, 64))
"""Usual input sizes, rows and columns; the first is the most usual one."""
_NO_MEAN, _NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_BYTE_MEAN: Final = (123.675, 116.28, 103.53)
"""ImageNet's mean in pixels of 0 to 255."""
_SAME: Final = 1e-4
"""Relative difference of mean and std below which two families are fed the same."""


@dataclass(frozen=True)
class Scaling:
    """One way to scale pixels.

    Attributes:
        name: what people call it.
        scale: what pixels are divided by.
        mean: what is subtracted after that, in the order RGB.
        std: what is divided by after that, in the order RGB.
    """

    name: str
    scale: float
    mean: Channels
    std: Channels


_UNIT: Final = (
    Scaling("ImageNet", 255.0, IMAGENET_MEAN, IMAGENET_STD),
    Scaling("none", 255.0, _NO_MEAN, _NO_STD),
    Scaling("0.5", 255.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Scaling("TAO", 255.0, IMAGENET_MEAN, (0.226, 0.226, 0.226)),
)
_BYTES: Final = (
    Scaling("none", 1.0, _NO_MEAN, _NO_STD),
    Scaling("mean only", 1.0, _BYTE_MEAN, _NO_STD),
)
_CENTRED_BYTES: Final = (  # what _UNIT has, written for pixels of 0 to 255
    Scaling("ImageNet", 1.0, _BYTE_MEAN, (58.395, 57.12, 57.375)),
    Scaling("0.5", 1.0, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    Scaling("TAO", 1.0, _BYTE_MEAN, (57.63, 57.63, 57.63)),
)


@dataclass(frozen=True)
class Variant:
    """One way to feed a network.

    Attributes:
        color: order of the network's channels.
        scaling: how pixels are scaled; mean and std are in the order of the network's channels.
        size: rows and columns.
        flip: whether each image is averaged with its mirror.
    """

    color: str
    scaling: Scaling
    size: tuple[int, int]
    flip: bool = False

    def facts(self, network: ForeignNetwork, choices: Choices) -> Facts:
        """These facts of the variant and all others of the network."""
        scaling = self.scaling
        return resolve(
            network,
            replace(
                choices,
                size=self.size,
                color=self.color,
                scale=scaling.scale,
                mean=scaling.mean,
                std=scaling.std,
                flip=self.flip,
            ),
        )


@dataclass(frozen=True)
class Space:
    """What is varied.

    Attributes:
        colors: orders of the channels.
        scalings: scalings, in the order RGB unless the caller gave mean or std.
        sizes: input sizes, the most usual one first.
        flips: False, True or both.
        given: names of mean and std that the caller gave; they are not turned for ``bgr``.
    """

    colors: tuple[str, ...]
    scalings: tuple[Scaling, ...]
    sizes: tuple[tuple[int, int], ...]
    flips: tuple[bool, ...]
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, network: ForeignNetwork, choices: Choices, flip: bool | None) -> Space:
        """All usual variants that the file and the caller leave open.

        Args:
            network: the network.
            choices: what the caller says; these facts are not varied.
            flip: what the caller says about mirrors; None if nothing.

        Raises:
            UsageError: a choice contradicts the file, or the file takes no usual size.
            ModelFileError: boxmot's metadata beside the file do not fit.
        """
        choices = with_preset(network, choices)
        return cls(
            colors=COLORS if choices.color is None else (choices.color,),
            scalings=_scalings(choices),
            sizes=_sizes(network, choices),
            flips=(False, True) if flip is None else (flip,),
            given=tuple(name for name in ("mean", "std") if getattr(choices, name) is not None),
        )

    def at(self, size: tuple[int, int]) -> Iterator[Variant]:
        """All variants of one size, with the mirrored image only if the caller says so."""
        for color, scaling in product(self.colors, self.scalings):
            turned = scaling
            if color == "bgr":
                names = [name for name in ("mean", "std") if name not in self.given]
                turned = replace(scaling, **{name: getattr(scaling, name)[::-1] for name in names})
            yield Variant(color, turned, size, self.flips[0])


def families_like(preprocessing: Preprocessing) -> tuple[str, ...]:
    """Names of the presets that feed a network so."""
    return tuple(
        name
        for name, preset in PRESETS.items()
        if preset.color == preprocessing.color
        and all(
            isclose(one, two, rel_tol=_SAME, abs_tol=_SAME)
            for one, two in zip(
                _line(preset.scale, preset.mean, preset.std),
                _line(preprocessing.scale, preprocessing.mean, preprocessing.std),
                strict=True,
            )
        )
    )


def _line(scale: float, mean: Channels, std: Channels) -> tuple[float, ...]:
    """Offset in pixel values and divisor per channel: scalings with the same line are the same."""
    return (*(value * scale for value in mean), *(value * scale for value in std))


def _scalings(choices: Choices) -> tuple[Scaling, ...]:
    """Usual scalings with what the caller says, each once."""
    scale, said = choices.scale, choices.mean is not None or choices.std is not None
    if scale is None:
        usual = (*_UNIT, *_BYTES, *(_CENTRED_BYTES if said else ()))
    elif scale == 255.0:
        usual = _UNIT
    elif scale == 1.0:
        usual = (*_BYTES, *_CENTRED_BYTES)
    else:
        usual = (Scaling("none", scale, _NO_MEAN, _NO_STD), *(_written_for(item, scale) for item in _CENTRED_BYTES))
    chosen: dict[tuple[float, ...], Scaling] = {}
    for item in usual:
        mean, std = choices.mean or item.mean, choices.std or item.std
        name = "given" if choices.mean and choices.std else item.name
        made = Scaling(name, item.scale, mean, std)  # type: ignore[arg-type]  # Choices checked for three numbers
        chosen.setdefault((made.scale, *made.mean, *made.std), made)
    return tuple(chosen.values())


def _written_for(item: Scaling, scale: float) -> Scaling:
    mean, std = (tuple(value / scale for value in values) for values in (item.mean, item.std))
    return Scaling(item.name, scale, mean, std)  # type: ignore[arg-type]


def _sizes(network: ForeignNetwork, choices: Choices) -> tuple[tuple[int, int], ...]:
    layout = layout_of(network, choices.layout)
    known = size_of(network, layout, choices)
    if known is not None:
        return (known,)
    fixed = fixed_sides(network.input, layout)
    fitting = tuple(size for size in SIZES if all(one in (None, two) for one, two in zip(fixed, size, strict=True)))
    if not fitting:
        told = " x ".join("?" if side is None else str(side) for side in fixed)
        raise UsageError(
            f"{printable(network.path)}: the input is {told} px, which no usual size fits: expected rows and columns "
            "from the network's card",
            parameter="size",
        )
    return fitting
