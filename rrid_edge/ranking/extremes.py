"""How a threshold grows with the size of the gallery: a law of extreme values.

A search answers with a stranger if the highest of N impostor scores reaches the threshold. The highest of N scores
follows a generalised extreme-value law (Fisher and Tippett, 1928; Coles, "An Introduction to Statistical Modeling of
Extreme Values", 2001, sections 3.1 and 3.3). Its quantiles move with N as

    T(N) = location + scale * (r**shape - 1) / shape,    r = N / reference,

and as location + scale * ln(r) where the shape is 0 (Gumbel). ``location`` is the threshold at the reference size. A
negative shape has an upper end, as cosines have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

_SHAPES: Final = np.round(np.arange(-1.0, 0.301, 0.01), 2)
LEAST_SIZES: Final = 3
"""Sizes that a shape needs; with two, it is 0."""
_GUMBEL: Final = 1e-6


@dataclass(frozen=True)
class ExtremeFit:
    """A threshold as a function of the size of the gallery; see the module.

    Attributes:
        reference: size at which the threshold is ``location``.
        location: a cosine.
        scale: of the growth, at least 0.
        shape: of the growth; 0 grows by the same amount per doubling.
    """

    reference: Annotated[int, Meta(ge=1)]
    location: Annotated[float, Meta(ge=-1.1, le=1.1)]
    scale: Annotated[float, Meta(ge=0, le=10)]
    shape: Annotated[float, Meta(ge=-2, le=2)]

    def score(self, size: int) -> float:
        """The threshold for a gallery of ``size`` crops, a cosine of at most 1."""
        grown = _growth(np.array([size / self.reference]), self.shape)[0]
        return min(1.0, max(-1.0, self.location + self.scale * float(grown)))


def fit_extremes(sizes: Sequence[int], scores: Sequence[float], weights: Sequence[float]) -> ExtremeFit:
    """Fit thresholds measured at some sizes by weighted least squares; the last size is the reference.

    Args:
        sizes: crops per gallery, ascending; at least two.
        scores: the threshold at each size.
        weights: information at each size: 1 / variance, up to a factor.
    """
    ratios = np.array(sizes, np.float64) / sizes[-1]
    target, weight = np.array(scores, np.float64), np.array(weights, np.float64)
    weight = weight / weight.sum()
    best: tuple[float, ExtremeFit] | None = None
    for shape in _SHAPES if len(sizes) >= LEAST_SIZES else (0.0,):
        growth = _growth(ratios, float(shape))
        centred = growth - weight @ growth
        scale = max(0.0, float(weight @ (centred * target)) / float(weight @ centred**2))
        location = float(weight @ target) - scale * float(weight @ growth)
        error = float(weight @ (target - location - scale * growth) ** 2)
        if best is None or error < best[0]:
            best = error, ExtremeFit(int(sizes[-1]), location, scale, float(shape))
    assert best is not None
    return best[1]


def _growth(ratios: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """(r**shape - 1) / shape, or ln(r)."""
    logs = np.log(ratios)
    grown: NDArray[np.float64] = logs if abs(shape) < _GUMBEL else np.expm1(shape * logs) / shape
    return grown
