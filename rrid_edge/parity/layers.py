"""Errors of single layers: whether an engine differs from its reference as if one layer's weights were scaled.

Rounding moves descriptors in many small directions. A layer of a wrong scale moves all of them in one known direction:
the derivative of the descriptors by the layer's scale. So the error is projected on the direction of each layer. This
finds a scale that is off by 2 % below the rounding of int8, which the cosines alone do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.parity.verdict import Criterion, Outcome

LARGEST_SCALE_ERROR: Final = 0.0125
"""Largest allowed error of a layer's scale. Rounding to bfloat16 looks like 0.0015 at most, int8 like 0.005."""
SUSPECT_SCALE_ERROR: Final = 0.006
"""Error in a first estimate on few images that is estimated again on more."""
FIRST_IMAGES: Final = 8
MORE_IMAGES: Final = 32
LEAST_EXPLAINED: Final = 0.003
"""Least share of the squared error that a wrong scale explains. Below it, the layer hardly changes descriptors."""
_DEVIATIONS: Final = 3.0


@dataclass(frozen=True)
class LayerScale:
    """How far the error of the descriptors looks like a wrong scale of one layer.

    Attributes:
        layer: name of the layer's weights.
        error: estimated error of its scale: 0.02 means weights that are 2 % too large.
        uncertainty: standard deviation of the estimate over images.
        explained: share of the squared error of the descriptors that it explains, in [0, 1].
    """

    layer: str
    error: float
    uncertainty: float
    explained: float

    @property
    def is_suspect(self) -> bool:
        """Whether more images should decide."""
        return abs(self.error) > SUSPECT_SCALE_ERROR

    @property
    def is_wrong(self) -> bool:
        """Whether the scale is off by more than :data:`LARGEST_SCALE_ERROR`, not by chance, and matters."""
        size = abs(self.error)
        is_large = size > LARGEST_SCALE_ERROR and size > _DEVIATIONS * self.uncertainty
        return is_large and self.explained >= LEAST_EXPLAINED

    def describe(self) -> str:
        """The error in words."""
        return (
            f"the scale of layer {self.layer} is off by {self.error:+.1%} (it explains {self.explained:.0%} of the "
            "difference)"
        )


def scale_errors(
    layers: Sequence[str],
    directions: NDArray[np.float32],
    reference: NDArray[np.float32],
    descriptors: NDArray[np.float32],
) -> tuple[LayerScale, ...]:
    """Project the error of descriptors on the direction of each layer's scale.

    The estimate is the least-squares coefficient of one layer alone: <error, direction> / <direction, direction>.

    Args:
        layers: names of L layers.
        directions: float32 (L, N, D): change of the descriptors per unit of the layer's scale.
        reference: float32 (N, D): descriptors of the reference, unit length.
        descriptors: float32 (N, D): those of the engine.

    Returns:
        One per layer that changes descriptors, the largest explained share first.
    """
    error = descriptors.astype(np.float64) - reference
    total = float(np.square(error).sum())
    found = []
    for layer, direction in zip(layers, directions.astype(np.float64), strict=True):
        squares = np.square(direction).sum(axis=1)
        mean = float(squares.mean())
        if not mean:
            continue
        products = (error * direction).sum(axis=1)
        slope = float(products.mean()) / mean
        spread = float(np.std(products - slope * squares)) / mean / np.sqrt(len(squares))
        explained = slope**2 * float(squares.sum()) / total if total else 0.0
        found.append(LayerScale(layer, slope, float(spread), min(explained, 1.0)))
    return tuple(sorted(found, key=lambda scale: -scale.explained))


def estimate_scales(
    measure: Callable[[int, Collection[str] | None], Sequence[LayerScale]], images: int
) -> tuple[LayerScale, ...]:
    """Errors of all layers' scales on few images; those that look wrong on more.

    Args:
        measure: estimates on at most so many images, for the named layers or for all.
        images: images that there are.

    Returns:
        One per layer that changes descriptors, the largest explained share first.
    """
    first = tuple(measure(FIRST_IMAGES, None))
    suspects = {scale.layer for scale in first if scale.is_suspect}
    if not suspects or images <= FIRST_IMAGES:
        return first
    kept = [scale for scale in first if scale.layer not in suspects]
    return tuple(sorted([*measure(MORE_IMAGES, suspects), *kept], key=lambda scale: -scale.explained))


def judge_layers(scales: Sequence[LayerScale]) -> Criterion:
    """Failed if the scale of a layer is wrong. Layers in a row look alike: the one that explains most is named."""
    wrong = [scale for scale in scales if scale.is_wrong]
    reason = wrong[0].describe() if wrong else ""
    return Criterion("layer scales", Outcome.FAILED if wrong else Outcome.PASSED, reason)
