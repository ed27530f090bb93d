"""Compare the two orders of channels by measures that the colour casts of the crops' cameras do not decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.progress import Progress
from rrid_export.adopt.casts import with_casts, without_casts
from rrid_export.adopt.stored import StoredStatistics
from rrid_export.adopt.trials import Bench, Trial

FORMS: Final[tuple[Callable[..., NDArray[np.uint8]], ...]] = (
    without_casts,
    *(partial(with_casts, seed=seed) for seed in (0, 1)),
)
"""Recoloured crops on which orders are compared, beside the crops themselves."""
STATISTICS_WEIGHT: Final = 0.3
"""Weight of the statistics beside d'. On 16 networks and 176 sets of crops, weights of 0.1 to 0.5 do equally well."""
_MOST: Final = 0.5
"""Largest logarithm of a fit that counts. Of a network with an unusual mean, the statistics can favour either order."""
FARTHEST: Final = 0.03
"""Largest distance that counts as a fit. In the 176 comparisons with the right order and mean, 173 were below."""
LEAST_FIT: Final = 1.3
"""Smallest fit that settles the order. The best fit of a wrong order in the same 176 comparisons was 1.19."""
LEAST_LEAD: Final = 0.2
"""Smallest lead that settles the order of a network without statistics. By d' alone, wrong orders led by up to 0.14."""
_EQUAL: Final = 1e-3
"""Smaller leads are rounding: the more usual order comes first."""
_SMALLEST: Final = 1e-9


@dataclass(frozen=True)
class OrderMeasures:
    """Measures of one order of channels, with its best scaling.

    Attributes:
        color: the order.
        separation: d' of genuine and impostor pairs, as the mean over the crops and their recoloured forms.
        person_ap: float64 (people,): mean average precision of each person, as the same mean.
        distances: float64 (layers,): distances of the crops without casts from the statistics that the network stores;
            None if it stores none.
    """

    color: str
    separation: float
    person_ap: NDArray[np.float64] = field(repr=False, compare=False)
    distances: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class OrderVerdict:
    """Two orders of channels, the better one first."""

    best: OrderMeasures
    rival: OrderMeasures

    @classmethod
    def of(cls, one: OrderMeasures, other: OrderMeasures) -> OrderVerdict:
        """The order with the lead is the better one; if they are equal, the first."""
        verdict = cls(one, other)
        return verdict if verdict.lead > -_EQUAL else cls(other, one)

    @property
    def loss(self) -> NDArray[np.float64]:
        """How much lower the rival's mean average precision is, per person: float64 (people,)."""
        return np.asarray(self.best.person_ap - self.rival.person_ap)

    @property
    def separation_loss(self) -> float:
        """How much lower the rival's d' is."""
        return self.best.separation - self.rival.separation

    @property
    def fit(self) -> float | None:
        """How many times as far the rival lies from the stored statistics: ratio of geometric means over layers.

        It is None without statistics, and where both orders lie far from them: then they measure something else, for
        example a wrong mean, or what the layers learned after normalising.
        """
        if self.best.distances is None or self.rival.distances is None:
            return None
        best, rival = (_geometric_mean(one) for one in (self.best.distances, self.rival.distances))
        return rival / best if min(best, rival) <= FARTHEST else None

    @property
    def lead(self) -> float:
        """Logarithm of the ratio of d', plus :data:`STATISTICS_WEIGHT` times that of the fit, which is at most 0.5."""
        best, rival = (max(one.separation, _SMALLEST) for one in (self.best, self.rival))
        return log(best / rival) + STATISTICS_WEIGHT * min(max(log(self.fit or 1.0), -_MOST), _MOST)


def measures_of(
    bench: Bench, trial: Trial, statistics: StoredStatistics | None, progress: Progress
) -> OrderMeasures | None:
    """Measure one order of channels.

    Args:
        bench: the crops and the network.
        trial: the best variant with this order.
        statistics: what the network stores, if anything.
        progress: advances by one per run of the network on a crop.

    Returns:
        The measures; None if the descriptors of a recoloured form are not finite.
    """
    variant, found = trial.variant, [trial]
    for form in FORMS:
        other = bench.try_variant(variant, progress, form=form)
        if other is None:
            return None
        found.append(other)
    images = bench.images_at(variant.size, without_casts)
    distances = None if statistics is None else statistics.distances(images, trial.facts)
    progress.advance(0 if statistics is None else len(images))
    separation = float(np.mean([one.separation for one in found]))
    return OrderMeasures(variant.color, separation, np.mean([one.person_ap for one in found], axis=0), distances)


def _geometric_mean(values: NDArray[np.float64]) -> float:
    return float(np.exp(np.log(values + _SMALLEST).mean()))
