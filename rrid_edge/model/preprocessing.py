"""What an adopted network is fed, and what its output needs.

A network of another program says nothing of this itself. The facts come from its card or from who adopts it. They are
built into the adopted file and recorded in its metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta

COLORS: Final = ("rgb", "bgr")
LAYOUTS: Final = ("nchw", "nhwc")
NORMALISATIONS: Final = ("l2", "none")
LARGEST: Final = 1e6
"""Largest value of scale, mean and std."""
SMALLEST: Final = 1e-6
"""Smallest value of scale and std."""
NETWORK_PREFIX: Final = "network/"
"""Put before the names of the network's own tensors in the adopted file."""
Divisor = Annotated[float, Meta(ge=SMALLEST, le=LARGEST)]
Offset = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
_Name = Annotated[str, Meta(min_length=1, max_length=1024)]


@dataclass(frozen=True)
class Preprocessing:
    """What an adopted network is fed, and what its output needs.

    A pixel ``p`` of 0 to 255 becomes ``(p / scale - mean) / std``, in float32.

    Attributes:
        color: order of the network's channels: ``rgb`` or ``bgr``.
        scale: what pixels are divided by: 255 for networks that take 0 to 1, 1 for those that take 0 to 255.
        mean: what is subtracted from each channel after ``scale``, in the order of the network's channels.
        std: what each channel is divided by after that.
        layout: order of the input's axes: ``nchw`` or ``nhwc``.
        normalise: ``l2`` if the output must be brought to unit length, ``none`` if the network does it.
        input: name of the network's input.
        output: name of the network's output with the descriptors.
    """

    color: Literal["rgb", "bgr"]
    scale: Divisor
    mean: tuple[Offset, Offset, Offset]
    std: tuple[Divisor, Divisor, Divisor]
    layout: Literal["nchw", "nhwc"]
    normalise: Literal["l2", "none"]
    input: _Name
    output: _Name

    @property
    def features(self) -> str:
        """Name of the network's own output in the adopted file; mean of the views and unit length come behind it."""
        return NETWORK_PREFIX + self.output

    def describe(self) -> str:
        """The facts in a few words."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.color.upper()} / {self.scale:g}, mean {mean}, std {std}, {self.layout.upper()}"
