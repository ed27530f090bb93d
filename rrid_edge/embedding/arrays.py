"""Images and boxes that callers hold in memory: NumPy arrays, torch tensors, Pillow images, detections.

torch is never imported: a tensor is known by its methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.images import MIN_SIDE_PX, load_rgb, rgb_of
from rrid_edge.errors import UsageError

Color = Literal["rgb", "bgr"]
"""Order of the channels of arrays and tensors. OpenCV gives ``bgr``. Files and Pillow images know their own."""
COLORS = ("rgb", "bgr")
_EXPECTED = "expected a Pillow image, a uint8 array (height, width, 3), a uint8 tensor, or the path of a file"


def refuse_unknown_color(color: str) -> None:
    """Refuse an order of channels other than ``rgb`` and ``bgr``.

    Raises:
        UsageError: ``color`` is unknown.
    """
    if color not in COLORS:
        raise UsageError(f"color {color!r} is unknown: expected one of {', '.join(COLORS)}", parameter="color")


def each_image(images: object) -> Iterator[object]:
    """The images of a call, one by one: a single image, one array or tensor of several, or an iterable.

    Raises:
        UsageError: neither an image nor several.
    """
    if isinstance(images, (str, PathLike, Image.Image)):
        yield images
        return
    if isinstance(images, np.ndarray) or is_tensor(images):
        array: Any = images
        if array.ndim == 3:
            yield array
            return
        if array.ndim != 4 and tuple(array.shape) != (0,):
            raise UsageError(f"{_described(images)}: {_EXPECTED}, or several of them", parameter="images")
        yield from array
        return
    if isinstance(images, (bytes, bytearray, dict)) or not isinstance(images, Iterable):
        raise UsageError(f"images of type {type(images).__name__}: {_EXPECTED}, or several of them", parameter="images")
    yield from images


def rgb_image(image: object, name: str, color: Color) -> Image.Image:
    """One image as Pillow image in RGB.

    Args:
        image: a Pillow image, a uint8 array (H, W, 3), a uint8 tensor (H, W, 3) or (3, H, W), or a path.
        name: what errors call it, for example ``image 3``.
        color: order of the channels of an array or a tensor.

    Raises:
        ImageError: a file or image that the image contract refuses.
        UsageError: another type, shape or dtype.
    """
    if isinstance(image, (str, PathLike)):
        return load_rgb(Path(image))
    if isinstance(image, Image.Image):
        return rgb_of(image, name)
    return rgb_of(Image.fromarray(in_rgb(*pixels_of(image, name, color))), name)


def pixels_of(image: object, name: str, color: Color) -> tuple[NDArray[np.uint8], Color]:
    """The pixels of one image of any accepted kind, and the order of their channels.

    Args:
        image: as for :func:`rgb_image`.
        name: what errors call it.
        color: order of the channels of an array or a tensor.

    Returns:
        uint8 (H, W, 3), which may be the given array, and its order: that of files and Pillow images is ``rgb``.

    Raises:
        ImageError: a file or image that the image contract refuses.
        UsageError: another type, shape or dtype.
    """
    if isinstance(image, (str, PathLike, Image.Image)):
        return np.asarray(rgb_image(image, name, color), np.uint8), "rgb"
    if is_tensor(image):
        image = _height_width_channels(image, name)
    if not isinstance(image, np.ndarray):
        raise UsageError(f"{name} of type {type(image).__name__}: {_EXPECTED}", parameter="images")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            f"{name} is an array of {image.dtype} and shape {image.shape}: expected uint8 (height, width, 3) with "
            "values from 0 to 255; convert it first",
            parameter="images",
        )
    return image, color


def in_rgb(pixels: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    """Pixels of a known order of channels as contiguous array in RGB, both uint8 (H, W, 3)."""
    # A list of channels, not a negative step: for a frame of 1080p 3 ms instead of 33 ms.
    return np.ascontiguousarray(pixels[:, :, [2, 1, 0]] if color == "bgr" else pixels)


def boxes_of(boxes: object) -> NDArray[np.float64]:
    """Boxes as float64 (N, 4): x1, y1, x2, y2 in pixels.

    Args:
        boxes: array, tensor or nested sequence of shape (N, 4), or an object that has one as ``xyxy``, such as the
            detections of supervision and the boxes of Ultralytics.

    Raises:
        UsageError: another type or shape, or a value that is no number.
    """
    found = getattr(boxes, "xyxy", boxes)
    try:
        array = np.asarray(to_numpy(found) if is_tensor(found) else found)
    except (ValueError, TypeError) as error:
        raise UsageError(f"boxes of unequal lengths or types ({error}): {_BOXES}", parameter="boxes_xyxy") from error
    if array.shape == (0,):
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
        raise UsageError(f"boxes of {array.dtype} and shape {array.shape}: {_BOXES}", parameter="boxes_xyxy")
    return array.astype(np.float64)


_BOXES = "expected numbers of shape (N, 4), x1, y1, x2, y2 in pixels of the frame, or an object that has them as xyxy"


def clipped_boxes(boxes: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.int64]:
    """Boxes clipped to a frame, with their edges rounded to the nearest whole pixel (halves to the even one).

    Args:
        boxes: float64 (N, 4): x1, y1, x2, y2.
        height_px: of the frame.
        width_px: of the frame.

    Returns:
        int64 (N, 4). A box holds the pixels from x1 to x2 - 1 and from y1 to y2 - 1.

    Raises:
        UsageError: a box has values that are not finite, no area, or too little of it inside the frame.
    """
    limits = np.array([width_px, height_px, width_px, height_px], np.float64)
    clipped = np.rint(np.clip(np.nan_to_num(boxes), 0, limits)).astype(np.int64)
    for index, (box, inside) in enumerate(zip(boxes, clipped, strict=True)):
        if problem := _problem(box, inside, height_px, width_px):
            shown = ", ".join(f"{value:g}" for value in box)
            raise UsageError(f"box {index} ({shown}) {problem}", parameter="boxes_xyxy")
    return clipped


def _problem(box: NDArray[np.float64], inside: NDArray[np.int64], height_px: int, width_px: int) -> str | None:
    """Why a box cannot be cut out of a frame, or None if it can."""
    if not np.isfinite(box).all():
        return "is not finite: expected x1, y1, x2, y2 in pixels; leave it out"
    if box[2] <= box[0] or box[3] <= box[1]:
        return "has no area: expected x1 < x2 and y1 < y2; convert boxes of another order, such as x, y, width, height"
    width, height = int(inside[2] - inside[0]), int(inside[3] - inside[1])
    frame = f"the frame of {width_px} x {height_px} pixels"
    if box[2] <= 0 or box[3] <= 0 or box[0] >= width_px or box[1] >= height_px:
        return f"lies outside {frame}: expected pixels of this frame; leave it out"
    if min(width, height) < MIN_SIDE_PX:
        least = f"{MIN_SIDE_PX} x {MIN_SIDE_PX}"
        return f"has {width} x {height} pixels inside {frame}: expected at least {least}; leave it out"
    return None


def is_tensor(value: object) -> bool:
    """Whether a value is a torch tensor, by its methods."""
    return not isinstance(value, np.ndarray) and all(hasattr(value, name) for name in ("detach", "cpu", "numpy"))


def to_numpy(tensor: Any) -> NDArray[Any]:  # noqa: ANN401 - a tensor of a package that is not imported
    """The values of a torch tensor of any device."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _height_width_channels(tensor: object, name: str) -> NDArray[Any]:
    """A tensor (H, W, 3) or (3, H, W) as array (H, W, 3).

    Raises:
        UsageError: both or neither of its ends have 3 channels.
    """
    array = to_numpy(tensor)
    ends = (array.shape[0], array.shape[-1]) if array.ndim == 3 else (0, 0)
    if (ends[0] == 3) == (ends[1] == 3):
        both = "both ends have" if ends[0] == 3 else "neither end has"
        raise UsageError(
            f"{name} is a tensor of shape {array.shape}, of which {both} 3 channels: expected (height, width, 3) or "
            "(3, height, width)",
            parameter="images",
        )
    return array.transpose(1, 2, 0) if ends[0] == 3 else array


def _described(value: object) -> str:
    array: Any = value
    return f"an array of {array.dtype} and shape {tuple(array.shape)}"
