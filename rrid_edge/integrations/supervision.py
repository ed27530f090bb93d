"""Descriptors of the detections of ``supervision``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import MIN_SIDE_PX
from rrid_edge.embedding.arrays import Color, boxes_of, pixels_of, refuse_unknown_color
from rrid_edge.embedding.embedder import Embedder


class DetectionEncoder:
    """Gives each detection of a frame its descriptor.

    A box below 8 x 8 pixels inside the frame is grown to it: a tracker needs a row for every detection, and a
    detector's tiny box must not end its run. Other nonsense is refused as by :meth:`Embedder.embed_boxes`.

    Args:
        embedder: computes the descriptors.
        color: order of the channels of frames: ``bgr`` as OpenCV and supervision read them, or ``rgb``.
    """

    def __init__(self, embedder: Embedder, color: Color = "bgr") -> None:
        refuse_unknown_color(color)
        self.embedder = embedder
        self.color: Color = color

    @property
    def embedding_dim(self) -> int:
        """Values per descriptor."""
        return self.embedder.spec.dimension

    def extract_detection_embeddings(self, frame: object, detections: object) -> NDArray[np.float32]:
        """Descriptors of the detections of a frame.

        Args:
            frame: uint8 array (H, W, 3).
            detections: ``supervision.Detections``, anything else with ``xyxy``, or boxes (N, 4).

        Returns:
            float32 (N, D), rows of unit length, in the order of the detections; N may be 0.

        Raises:
            UsageError: a box is not finite, has no area or lies outside the frame; or a wrong type or shape.
        """
        pixels, order = pixels_of(frame, "the frame", self.color)
        boxes = with_smallest_sides(boxes_of(detections), *pixels.shape[:2])
        return self.embedder.embed_boxes(pixels, boxes, order)


def with_smallest_sides(boxes: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Boxes whose sides inside the frame are at least 8 pixels, grown around their centre and kept in the frame.

    Boxes that are not finite, have no area or lie outside the frame are returned as they are.

    Args:
        boxes: float64 (N, 4): x1, y1, x2, y2.
        height_px: of the frame.
        width_px: of the frame.
    """
    result: NDArray[np.float64] = boxes.copy()
    is_inside = np.isfinite(boxes).all(axis=1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    is_inside &= (boxes[:, 0] < width_px) & (boxes[:, 1] < height_px) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    for low, high, limit in ((0, 2, width_px), (1, 3, height_px)):
        first, last = np.rint(np.clip(boxes[:, low], 0, limit)), np.rint(np.clip(boxes[:, high], 0, limit))
        is_small = is_inside & (last - first < MIN_SIDE_PX)
        grown = np.clip(np.rint((first + last) / 2) - MIN_SIDE_PX // 2, 0, max(0, limit - MIN_SIDE_PX))
        result[is_small, low] = grown[is_small]
        result[is_small, high] = grown[is_small] + MIN_SIDE_PX
    return result
