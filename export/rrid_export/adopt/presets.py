"""What public families of re-ID networks are fed, by their own cards and configurations.

A preset names its source. Where the card of one network says otherwise, the card is right: options win over a preset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rrid_edge.model.spec import IMAGENET_MEAN, IMAGENET_STD

BOXMOT: Final = "boxmot"
"""The preset whose networks have facts in a file beside them, see :mod:`rrid_export.adopt.boxmot`."""
_NO_MEAN: Final = (0.0, 0.0, 0.0)
_NO_STD: Final = (1.0, 1.0, 1.0)
_TAO_STD: Final = 1 / 0.01735207


@dataclass(frozen=True)
class Preset:
    """What one family of networks is fed.

    Attributes:
        size: rows and columns, if the file does not fix them; None if the family has several sizes.
        color: order of the network's channels.
        scale: what pixels are divided by.
        mean: what is subtracted after that, in the order of the network's channels.
        std: what is divided by after that.
        source: where these facts stand.
    """

    size: tuple[int, int] | None
    color: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str


PRESETS: Final = {
    "torchreid": Preset(
        (256, 128), "rgb", 255.0, IMAGENET_MEAN, IMAGENET_STD, "torchreid's data transforms and model zoo (MIT)"
    ),
    "fastreid": Preset(None, "rgb", 1.0, _NO_MEAN, _NO_STD, "fast-reid's exports (Apache-2.0): they normalise inside"),
    "omz-retail": Preset(
        (256, 128),
        "bgr",
        1.0,
        _NO_MEAN,
        _NO_STD,
        "Open Model Zoo, person-reidentification-retail-0277, 0286, 0287, 0288 (Apache-2.0)",
    ),
    "tao-reid": Preset(
        (256, 128),
        "rgb",
        1.0,
        (123.675, 116.28, 103.53),
        (_TAO_STD, _TAO_STD, _TAO_STD),
        "NVIDIA TAO ReIdentificationNet: netScaleFactor and offsets of DeepStream's tracker",
    ),
    "yolo-reid": Preset((224, 224), "rgb", 255.0, _NO_MEAN, _NO_STD, "ultralytics' yolo re-ID exports (AGPL-3.0)"),
    BOXMOT: Preset(
        (256, 128), "rgb", 255.0, IMAGENET_MEAN, IMAGENET_STD, "boxmot's exports; their metadata file wins (AGPL-3.0)"
    ),
}
"""Presets by name."""
