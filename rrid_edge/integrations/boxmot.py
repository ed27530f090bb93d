"""An appearance encoder for BoxMOT: its public protocol ``boxmot.reid.AppearanceEncoder`` (BoxMOT 25)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from rrid_edge.embedding.embedder import Embedder
from rrid_edge.errors import MissingDependencyError, UsageError
from rrid_edge.integrations.supervision import DetectionEncoder


class AppearanceEncoder:
    """Encodes the detections of BoxMOT's frames, for example as ``reid`` of its tracking pipelines.

    A box below 8 x 8 pixels inside the frame is grown to it.

    Args:
        embedder: computes the descriptors.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._encoder = DetectionEncoder(embedder, "rgb")  # BoxMOT's frames are RGB

    @property
    def embedding_dim(self) -> int:
        """Values per descriptor."""
        return self._encoder.embedding_dim

    @property
    def requirements(self) -> Any:  # noqa: ANN401 - a type of a package that is not a dependency
        """BoxMOT's ``EncoderRequirements``: no masks are needed.

        Raises:
            MissingDependencyError: BoxMOT 25 or newer is not installed.
        """
        try:
            return importlib.import_module("boxmot.reid").EncoderRequirements()
        except (ImportError, AttributeError) as error:
            raise MissingDependencyError(
                "this encoder needs the package 'boxmot' of version 25 or newer: pip install 'boxmot>=25'"
            ) from error

    def encode(self, frames: Sequence[Any], detections: Sequence[Any]) -> list[Any]:
        """Descriptors of the detections of some frames.

        Args:
            frames: BoxMOT's ``Frame`` objects.
            detections: BoxMOT's ``Detections``, one per frame, with axis-aligned boxes.

        Returns:
            Per frame a float32 torch tensor (N, D) on the CPU, rows of unit length; N may be 0.

        Raises:
            UsageError: the numbers of frames and detections differ, they belong to different samples, or boxes are
                oriented; or a box is refused.
        """
        if len(frames) != len(detections):
            raise UsageError(f"{len(frames)} frames and {len(detections)} detections: expected one each per frame")
        return [self._encoded(*pair) for pair in zip(frames, detections, strict=True)]

    def _encoded(self, frame: Any, detections: Any) -> Any:  # noqa: ANN401 - types of a package that is not imported
        if frame.sample_id != detections.sample_id:
            raise UsageError(
                f"frame {frame.sample_id!r} with detections of {detections.sample_id!r}: expected those of the frame"
            )
        if detections.is_obb:
            raise UsageError(f"frame {frame.sample_id!r}: oriented boxes; expected axis-aligned ones (x1, y1, x2, y2)")
        found = self._encoder.extract_detection_embeddings(frame.image, detections.geometry.values)
        return detections.scores.new_tensor(found)  # a tensor without importing torch: float32 on the CPU, as scores
