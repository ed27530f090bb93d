"""What is known about a foreign network: chosen by the user, told by a preset, or fixed by the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.onnx_header import TensorInfo
from rrid_edge.model.preprocessing import COLORS, LARGEST, LAYOUTS, NORMALISATIONS, SMALLEST, Preprocessing
from rrid_export.adopt.boxmot import boxmot_facts
from rrid_export.adopt.foreign import LARGEST_SIDE_PX, MOST_VALUES_PER_IMAGE, SMALLEST_SIDE_PX, ForeignNetwork
from rrid_export.adopt.presets import BOXMOT, PRESETS

_CHANNELS: Final = {"nchw": 1, "nhwc": 3}
_SIDES: Final = {"nchw": (2, 3), "nhwc": (1, 2)}
_NEEDED: Final = ("color", "scale", "mean", "std")


@dataclass(frozen=True)
class Choices:
    """What the caller says about a network; None where nothing is said.

    Attributes:
        preset: one of :data:`rrid_export.adopt.presets.PRESETS`, for all that is not said.
        size: rows and columns of the input, in pixels.
        color: ``rgb`` or ``bgr``.
        scale: what pixels of 0 to 255 are divided by.
        mean: what is subtracted from each channel after ``scale``, in the order of the network's channels.
        std: what each channel is divided by after that.
        layout: ``nchw`` or ``nhwc``.
        normalise: ``l2``, or ``none`` if the network's own output has unit length; None means ``l2``.
        input: name of the network's input.
        output: name of its output with the descriptors.
        flip: average each image with its mirror.
    """

    preset: str | None = None
    size: tuple[int, int] | None = None
    color: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: str | None = None
    normalise: str | None = None
    input: str | None = None
    output: str | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        for name, known in (("preset", PRESETS), ("color", COLORS), ("layout", LAYOUTS), ("normalise", NORMALISATIONS)):
            _check_known(name, getattr(self, name), known)
        if self.size is not None:
            _check_size(self.size)
        _check_numbers("scale", None if self.scale is None else (self.scale,), count=1, smallest=SMALLEST)
        _check_numbers("mean", self.mean, count=3, smallest=-LARGEST)
        _check_numbers("std", self.std, count=3, smallest=SMALLEST)

    def with_defaults(self, defaults: Mapping[str, Any]) -> Choices:
        """These choices, and those of ``defaults`` where nothing is said."""
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class Facts:
    """All that is needed to adopt a network.

    Attributes:
        height_px: rows of the input.
        width_px: columns of the input.
        preprocessing: what the network is fed, and what its output needs.
        flip: average each image with its mirror.
    """

    height_px: int
    width_px: int
    preprocessing: Preprocessing
    flip: bool = False

    @property
    def fed_shape(self) -> tuple[int, int, int]:
        """Shape of one image as the network takes it."""
        if self.preprocessing.layout == "nchw":
            return (3, self.height_px, self.width_px)
        return (self.height_px, self.width_px, 3)

    @property
    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a pixel is multiplied by, and what is subtracted then: float32 (3,) each."""
        given = self.preprocessing
        std = np.array(given.std, np.float64)
        return (1 / (given.scale * std)).astype(np.float32), (np.array(given.mean) / std).astype(np.float32)


def resolve(network: ForeignNetwork, choices: Choices) -> Facts:
    """Put together what the caller, a preset and the file say, in this order.

    Raises:
        UsageError: a fact is missing, or a choice contradicts the file.
        ModelFileError: boxmot's metadata beside the file do not fit.
    """
    choices = with_preset(network, choices)
    layout = layout_of(network, choices.layout)
    size = size_of(network, layout, choices)
    missing = [name for name in _NEEDED if getattr(choices, name) is None]
    missing += ["size"] * (size is None)
    if missing or size is None:
        raise UsageError(
            f"{printable(network.path)}: what this network is fed is not known ({', '.join(missing)}): give a preset "
            f"({', '.join(PRESETS)}), each of these facts from the network's card, or labelled crops to suggest them",
            parameter=(*missing, "suggest"),
        )
    preprocessing = Preprocessing(
        color=choices.color,  # type: ignore[arg-type]  # checked by Choices
        scale=float(choices.scale or 1.0),
        mean=choices.mean,  # type: ignore[arg-type]
        std=choices.std,  # type: ignore[arg-type]
        layout=layout,  # type: ignore[arg-type]
        normalise=choices.normalise or "l2",  # type: ignore[arg-type]
        input=network.input.name,
        output=network.output.name,
    )
    return Facts(*size, preprocessing, choices.flip)


def with_preset(network: ForeignNetwork, choices: Choices) -> Choices:
    """The choices, and the facts of their preset where nothing is said; not its size, which the file may fix.

    Raises:
        UsageError: boxmot's metadata beside the file ask for a choice.
        ModelFileError: they do not fit.
    """
    if choices.preset is None:
        return choices
    preset = PRESETS[choices.preset]
    if choices.preset == BOXMOT:
        has_both = choices.mean is not None and choices.std is not None
        choices = choices.with_defaults(boxmot_facts(network, has_mean_and_std=has_both))
    names = {field.name for field in fields(preset)} - {"size", "source"}
    return choices.with_defaults({name: getattr(preset, name) for name in names})


def layout_of(network: ForeignNetwork, chosen: str | None) -> str:
    """Order of the input's axes: where the three channels are.

    Raises:
        UsageError: the file cannot tell, or the choice contradicts it.
    """
    tensor = network.input
    found = [name for name, axis in _CHANNELS.items() if tensor.shape[axis] in (3, None) or _is_name(tensor, axis)]
    exact = [name for name in found if tensor.shape[_CHANNELS[name]] == 3]
    if chosen is not None and chosen not in found:
        raise UsageError(
            f"{printable(network.path)}: layout {chosen} contradicts the file, whose input is {_shape(tensor)}: "
            "expected 3 channels there",
            parameter="layout",
        )
    if chosen is None and len(exact) != 1:
        raise UsageError(
            f"{printable(network.path)}: the layout of the input {_shape(tensor)} cannot be told: expected 3 channels "
            "on axis 1 (nchw) or 3 (nhwc): choose one",
            parameter="layout",
        )
    return chosen or exact[0]


def size_of(network: ForeignNetwork, layout: str, choices: Choices) -> tuple[int, int] | None:
    """Rows and columns of the input; None if nobody says them.

    Raises:
        UsageError: the choice contradicts the file.
    """
    sides = fixed_sides(network.input, layout)
    wanted: Sequence[int | None] = choices.size or (None, None)
    if any(side is not None and want not in (None, side) for side, want in zip(sides, wanted, strict=True)):
        raise UsageError(
            f"{printable(network.path)}: size {wanted[0]} x {wanted[1]} px contradicts the file, whose input is "
            f"{_shape(network.input)}: leave it out",
            parameter="size",
        )
    preset = PRESETS[choices.preset].size if choices.preset is not None else None
    found = [side or want or told for side, want, told in zip(sides, wanted, preset or (None, None), strict=True)]
    if None in found:
        return None
    height, width = (int(side) for side in found if side is not None)
    _check_size((height, width))
    return height, width


def fixed_sides(tensor: TensorInfo, layout: str) -> tuple[int | None, int | None]:
    """Rows and columns that the file fixes; None for each that it does not."""
    rows, columns = (tensor.shape[axis] for axis in _SIDES[layout])
    return tuple(side if isinstance(side, int) and side > 0 else None for side in (rows, columns))  # type: ignore[return-value]


def _shape(tensor: TensorInfo) -> str:
    return "(" + ", ".join("?" if axis is None else printable(str(axis)) for axis in tensor.shape) + ")"


def _is_name(tensor: TensorInfo, axis: int) -> bool:
    return isinstance(tensor.shape[axis], str)


def _check_size(size: tuple[int, int]) -> None:
    fits = all(SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in size)
    if not fits or 3 * size[0] * size[1] > MOST_VALUES_PER_IMAGE:
        raise UsageError(
            f"size {size[0]} x {size[1]} px does not work: expected {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} rows and "
            f"columns, and {MOST_VALUES_PER_IMAGE // 3:,} pixels at most, for example 256 x 128",
            parameter="size",
        )


def _check_known(name: str, value: str | None, known: Sequence[str] | Mapping[str, object]) -> None:
    if value is not None and value not in known:
        raise UsageError(f"{name} {value!r} is unknown: expected one of {', '.join(known)}", parameter=name)


def _check_numbers(name: str, values: Sequence[float] | None, *, count: int, smallest: float) -> None:
    if values is None:
        return
    if len(values) != count or not all(math.isfinite(value) and smallest <= value <= LARGEST for value in values):
        told = ", ".join(f"{value:g}" for value in values[:4])
        raise UsageError(
            f"{name} {told} does not work: expected {count} number{'s' * (count > 1)} from {smallest:g} to {LARGEST:g}",
            parameter=name,
        )
