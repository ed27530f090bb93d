"""The original network as the reference: preprocessing in float64 NumPy, the untouched file in its own runtime."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime
from rrid_edge.errors import ModelFileError, unforeseen
from rrid_edge.progress import step
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import ForeignNetwork, refused

MOST_DESCRIPTOR_VALUES: Final = 1 << 20
"""Values of a descriptor."""


class Original(Protocol):
    """An untouched network that takes one batch of its own size.

    Attributes:
        name: name for reports.
        batch: images per call.
        dtype: element type of its input, ``float32`` or ``float16``.
    """

    name: str
    batch: int
    dtype: str

    def run(self, fed: NDArray[Any]) -> NDArray[Any]:
        """Its output for one batch, (``batch``, D)."""
        ...

    def refused(self, reason: str) -> ModelFileError:
        """The error for a network that cannot be adopted."""
        ...


class OnnxOriginal:
    """The original ONNX file on ONNX Runtime's CPU provider.

    Args:
        network: the file.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ModelFileError: the runtime refuses the file.
    """

    def __init__(self, network: ForeignNetwork) -> None:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        self._network = network
        self.name = f"the original on onnxruntime {runtime.__version__}, float64 preprocessing"
        self.batch = network.fixed_batch or 1  # files that declare any batch were seen to be wrong above 1
        self.dtype = network.input.dtype
        try:
            self._session = runtime.InferenceSession(
                str(network.path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # the runtime's own exception classes are not public
            raise self._refused(error) from error

    def run(self, fed: NDArray[Any]) -> NDArray[Any]:
        """Its output for one batch, (``batch``, D).

        Raises:
            ModelFileError: the runtime cannot compute it.
        """
        try:
            output: NDArray[Any] = self._session.run([self._network.output.name], {self._network.input.name: fed})[0]
        except Exception as error:
            raise self._refused(error) from error
        return output

    def refused(self, reason: str) -> ModelFileError:
        """The error for a network that cannot be adopted."""
        return refused(self._network.path, reason)

    def _refused(self, error: Exception) -> Exception:
        path = self._network.path
        return refused(path, f"ONNX Runtime cannot run it ({unforeseen(error, known=str(path))})")


def fed_pixels(images: NDArray[np.uint8], facts: Facts) -> NDArray[np.float64]:
    """What the network is fed, by the formula of its facts in float64.

    Args:
        images: uint8 (N, height, width, 3), RGB.
        facts: what the network is fed.

    Returns:
        float64 (N, 3, height, width) or (N, height, width, 3).
    """
    given = facts.preprocessing
    pixels = images[..., ::-1] if given.color == "bgr" else images
    values: NDArray[np.float64] = (pixels.astype(np.float64) / given.scale - np.array(given.mean)) / np.array(given.std)
    planes: NDArray[np.float64] = values.transpose(0, 3, 1, 2) if given.layout == "nchw" else values
    return planes


def original_descriptors(original: Original, images: NDArray[np.uint8], facts: Facts) -> NDArray[np.float64]:
    """Descriptors as the original network gives them, with mean of views and unit length in float64.

    Args:
        original: the untouched network.
        images: uint8 (N, height, width, 3), RGB.
        facts: what it is fed.

    Returns:
        float64 (N, D).

    Raises:
        ModelFileError: the network cannot be run.
    """
    features = _features(original, images, facts)
    if facts.flip:
        features = features + _features(original, images[:, :, ::-1], facts)
    if not facts.flip and facts.preprocessing.normalise == "none":
        return features
    unit: NDArray[np.float64] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit


def _features(original: Original, images: NDArray[np.uint8], facts: Facts) -> NDArray[np.float64]:
    rows, size = [], original.batch
    with step("running the original network", len(images)) as running:
        for start in range(0, len(images), size):
            part = fed_pixels(images[start : start + size], facts)
            full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            made = original.run(np.ascontiguousarray(full, original.dtype))
            if made.ndim != 2 or len(made) != size or not 0 < made.shape[1] <= MOST_DESCRIPTOR_VALUES:
                raise original.refused(
                    f"its output has the shape {made.shape}, expected ({size}, at most {MOST_DESCRIPTOR_VALUES:,} "
                    "values)"
                )
            rows.append(made[: len(part)])
            running.advance(len(part))
    features: NDArray[np.float64] = np.concatenate(rows).astype(np.float64)
    return features
