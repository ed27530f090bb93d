"""An encoder for the package ``trackers``, whose trackers associate detections of ``supervision``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.integrations import supervision


class DetectionEncoder(supervision.DetectionEncoder):
    """A feature extractor, or re-identification encoder, of ``trackers``; frames are BGR by default.

    Args:
        embedder: computes the descriptors.
        color: order of the channels of frames: ``bgr`` or ``rgb``.
    """

    def extract_features(self, first: object, second: object) -> NDArray[np.float32]:
        """Descriptors of detections, float32 (N, D).

        Versions of ``trackers`` differ: 2.0 passes the frame and then the detections, others the detections first.
        The argument with ``xyxy`` is the detections.

        Raises:
            UsageError: as for :meth:`extract_detection_embeddings`; or not one of the two has ``xyxy``.
        """
        if hasattr(first, "xyxy") == hasattr(second, "xyxy"):
            raise UsageError(
                f"arguments of types {type(first).__name__} and {type(second).__name__}: expected a frame and "
                "detections with xyxy"
            )
        frame, detections = (second, first) if hasattr(first, "xyxy") else (first, second)
        return self.extract_detection_embeddings(frame, detections)

    def extract_features_from_paths(
        self, image_paths: Sequence[str | Path], *, batch_size: int = 64, normalize: bool = False
    ) -> NDArray[np.float32]:
        """Descriptors of image files, float32 (N, D). They have unit length with and without ``normalize``.

        Args:
            image_paths: the files, each an image of one person.
            batch_size: ignored; the engine's own is used.
            normalize: ignored.
        """
        return self.embedder.embed(image_paths)
