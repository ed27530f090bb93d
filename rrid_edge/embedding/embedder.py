"""``Embedder``: descriptors of images and of boxes in video frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.closable import Closable
from rrid_edge.crops.images import resize
from rrid_edge.embedding.arrays import (
    Color,
    boxes_of,
    clipped_boxes,
    each_image,
    in_rgb,
    pixels_of,
    refuse_unknown_color,
    rgb_image,
)
from rrid_edge.engines.base import Engine
from rrid_edge.engines.opening import open_engine
from rrid_edge.errors import ClosedError, UsageError, printable
from rrid_edge.model.spec import ModelSpec


class Embedder(Closable):
    """Turns images, and boxes of video frames, into descriptors; a context manager.

    Pixels are those of the image contract: an array gives the descriptor that its PNG file would give. Methods may be
    called from any thread.

    Args:
        model: a model file, or an engine that is open. The caller closes an engine of its own.
        runtime: of a model file; see :func:`rrid_edge.open_engine`.
        precision: arithmetic of a model file; see :func:`rrid_edge.open_engine`.
        threads: CPU threads for a model file; 0 lets the runtime choose.

    Attributes:
        engine: the engine that computes.
        model: the model file, or None for an engine of the caller's.

    Raises:
        UsageError: no such file, an unknown runtime, or a precision that the runtime does not support.
        MissingDependencyError: the runtime is not installed.
        ModelFileError: the file is damaged or does not fit.
    """

    def __init__(
        self, model: str | Path | Engine, runtime: str = "auto", *, precision: str | None = None, threads: int = 0
    ) -> None:
        self.model = Path(model) if isinstance(model, (str, PathLike)) else None
        if isinstance(model, (str, PathLike)):
            self.engine: Engine = open_engine(model, runtime, precision=precision, threads=threads)
        elif isinstance(model, Engine):
            self.engine = model
        else:
            raise UsageError(
                f"model of type {type(model).__name__}: expected the path of a model file, or an open engine",
                parameter="model",
            )
        self._is_closed = False

    @property
    def spec(self) -> ModelSpec:
        """The model that computes: input size, blocks, precision, fingerprint."""
        return self.engine.spec

    def embed(self, images: object, color: Color = "rgb") -> NDArray[np.float32]:
        """Descriptors of images, each of one person.

        Args:
            images: one image, or an iterable of images of any size. An image is a Pillow image, a uint8 array
                (H, W, 3), a uint8 torch tensor (H, W, 3) or (3, H, W), or the path of a file. One array (N, H, W, 3)
                holds N images.
            color: order of the channels of arrays and tensors: ``rgb``, or ``bgr`` as OpenCV gives it. Files and
                Pillow images know their own.

        Returns:
            float32 (N, D), rows of unit length; N may be 0.

        Raises:
            ImageError: an image that the image contract refuses, such as one below 8 x 8 pixels.
            UsageError: another type, shape, dtype or colour name.
            ClosedError: the embedder was closed.
        """
        refuse_unknown_color(color)
        named = ((f"image {index}", image) for index, image in enumerate(each_image(images)))
        return self._embedded(rgb_image(image, name, color) for name, image in named)

    def embed_boxes(self, frame: object, boxes_xyxy: object, color: Color = "rgb") -> NDArray[np.float32]:
        """Descriptors of the people in the boxes of a frame.

        Boxes are clipped to the frame. Their edges are rounded to the nearest whole pixel, halves to the even one.

        Args:
            frame: one image; see :meth:`embed`.
            boxes_xyxy: N boxes x1, y1, x2, y2 in pixels of the frame: an array, a tensor or lists of shape (N, 4),
                integers or floating-point numbers, or an object that has them as ``xyxy``.
            color: order of the channels of an array or a tensor: ``rgb`` or ``bgr``.

        Returns:
            float32 (N, D), rows of unit length, in the order of the boxes; N may be 0.

        Raises:
            UsageError: a box is not finite, has no area, or has fewer than 8 x 8 pixels inside the frame; the message
                names it. Or another type, shape, dtype or colour name.
            ImageError: a frame that the image contract refuses.
            ClosedError: the embedder was closed.
        """
        refuse_unknown_color(color)
        boxes = boxes_of(boxes_xyxy)
        pixels, order = pixels_of(frame, "the frame", color)
        clipped = clipped_boxes(boxes, *pixels.shape[:2])
        crops = (in_rgb(pixels[y1:y2, x1:x2], order) for x1, y1, x2, y2 in clipped.tolist())
        return self._embedded(Image.fromarray(crop) for crop in crops)

    def close(self) -> None:
        """Close the engine if the embedder opened it. Safe to call twice."""
        self._is_closed = True
        if self.model is not None:
            self.engine.close()

    def _embedded(self, images: Iterable[Image.Image]) -> NDArray[np.float32]:
        """Descriptors of RGB images, float32 (N, D). At most one batch of them is held in memory."""
        height, width = self.spec.height_px, self.spec.width_px
        resized = (resize(image, height, width) for image in images)
        self._refuse_closed()
        answers = [self.engine.run(np.stack(batch)) for batch in _batches(resized, self.engine.max_batch)]
        return np.concatenate(answers) if answers else np.empty((0, self.spec.dimension), np.float32)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise ClosedError("the embedder" + (f" of {printable(self.model)}" if self.model is not None else ""))


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[list[Any]]:
    """Images in lists of at most ``size``."""
    batch: list[Any] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
