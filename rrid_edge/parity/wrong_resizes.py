"""The usual wrong ways to resize a picture, imitated to find out which one explains a failed parity check."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.images import resize

Pixels = NDArray[np.uint8]


def _stretched(how: Image.Resampling) -> Callable[[Image.Image, int, int], Pixels]:
    return lambda picture, height, width: np.asarray(picture.resize((width, height), how))


def _without_antialias(picture: Image.Image, height: int, width: int) -> Pixels:
    across, down = picture.width / width, picture.height / height
    # Image.transform has no values beyond the outermost pixel centres, so the border is repeated once.
    padded = Image.fromarray(np.pad(np.asarray(picture), ((1, 1), (1, 1), (0, 0)), mode="edge"))
    shifted = (across, 0.0, 1.0, 0.0, down, 1.0)
    return np.asarray(
        padded.transform((width, height), Image.Transform.AFFINE, shifted, resample=Image.Resampling.BILINEAR)
    )


def _letterboxed(picture: Image.Image, height: int, width: int) -> Pixels:
    share = min(height / picture.height, width / picture.width)
    rows, columns = max(1, round(picture.height * share)), max(1, round(picture.width * share))
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[top : top + rows, left : left + columns] = resize(picture, rows, columns)
    return canvas


def _cropped(picture: Image.Image, height: int, width: int) -> Pixels:
    share = max(height / picture.height, width / picture.width)
    rows, columns = max(height, round(picture.height * share)), max(width, round(picture.width * share))
    top, left = (rows - height) // 2, (columns - width) // 2
    return resize(picture, rows, columns)[top : top + height, left : left + width]


def _squashed(side_px: int) -> Callable[[Image.Image, int, int], Pixels]:
    def squash(picture: Image.Image, height: int, width: int) -> Pixels:
        return resize(Image.fromarray(resize(picture, side_px, side_px)), height, width)

    return squash


WRONG_RESIZES: dict[str, Callable[[Image.Image, int, int], Pixels]] = {
    "nearest-resize": _stretched(Image.Resampling.NEAREST),
    "no-antialias": _without_antialias,
    "bicubic-resize": _stretched(Image.Resampling.BICUBIC),
    "letterbox": _letterboxed,
    "centre-crop": _cropped,
    "squashed-224": _squashed(224),
    "squashed-256": _squashed(256),
}
"""Name of a mistake -> function of a picture, height and width in pixels that returns uint8 (height, width, 3)."""
