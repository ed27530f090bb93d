"""What trials say about each fact: its value, the other values, and whether the crops tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from rrid_export.adopt.orders import LEAST_FIT, LEAST_LEAD, OrderVerdict
from rrid_export.adopt.telling import LEVEL, chance_of, corrected
from rrid_export.adopt.trials import Trial
from rrid_export.adopt.variants import Variant

_DIGITS: Final = 3
"""Digits of mAP and separation that count for the order. Variants that are equal in both come in the usual order."""


@dataclass(frozen=True)
class Rival:
    """The best variant with another value of one fact, beside the best variant.

    Attributes:
        value: its value, for example ``bgr``.
        loss: how much lower its mean average precision is, as the mean over people, in [-1, 1].
        separation_loss: how much lower its separation of pairs is.
        chance: p value of the paired randomisation test over people, corrected for all rivals of all facts.
        fit: of an order of channels, how many times as far the crops lie from the statistics that the network stores;
            None if it stores none.
        lead: of an order of channels, how far it is behind; see :class:`rrid_export.adopt.orders.OrderVerdict`. None
            for other facts.
    """

    value: str
    loss: float
    separation_loss: float
    chance: float
    fit: float | None = None
    lead: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether no measure is better than that of the best variant."""
        return self.loss >= 0 and self.separation_loss >= 0 and (self.fit is None or self.fit >= 1)

    @property
    def far_enough(self) -> bool:
        """Whether it is farther behind than right orders of channels were seen to be; True for other facts."""
        if self.fit is not None:
            return self.fit >= LEAST_FIT
        return self.lead is None or self.lead >= LEAST_LEAD

    @property
    def settled(self) -> bool:
        """Whether it is told from the best variant: beyond the noise, all measures agree, and far enough behind."""
        return self.chance < LEVEL and self.agrees and self.far_enough

    def describe(self) -> str:
        """The value, and what it loses."""
        told = f"mAP {0 - 100 * self.loss:+.1f} points, d' {0 - self.separation_loss:+.2f}"
        if self.fit is not None:
            told += f", {self.fit:.2f} times as far from the statistics in the network"
        return f"{self.value} ({told})"

    def doubt(self, people: int) -> str:
        """Why it is not told from the best variant."""
        if self.chance >= LEVEL:
            return f"within the noise of {people} people"
        return "too small a difference to be sure" if self.agrees else "the measures disagree"


@dataclass(frozen=True)
class Finding:
    """What the crops say about one fact.

    Attributes:
        fact: ``color``, ``scale``, ``mean and std``, ``size`` or ``flip``.
        value: its value in the best variant.
        rivals: its other values, the nearest first.
    """

    fact: str
    value: str
    rivals: tuple[Rival, ...]

    @property
    def settled(self) -> bool:
        """Whether the crops tell the value from all others."""
        return all(rival.settled for rival in self.rivals)

    def describe(self, people: int) -> str:
        """One line, with the nearest rival, or with all that are not told apart."""
        if self.settled:
            return f"settled: {self.fact} {self.value}, not {self.rivals[0].describe()}"
        unsettled = [rival for rival in self.rivals if not rival.settled]
        near = ", ".join(rival.describe() for rival in unsettled)
        doubts = sorted({rival.doubt(people) for rival in unsettled})
        return f"not settled: {self.fact} {self.value}, or {near}: {', '.join(doubts)}"


def findings_of(base: Trial, trials: list[Trial], order: OrderVerdict | None = None) -> tuple[Finding, ...]:
    """What the crops say about each fact that was varied.

    For each other value of a fact, the best variant with it is compared with the best one, person by person. Orders of
    channels are compared over the crops and their recoloured forms.

    Args:
        base: the best variant, without a mirror if that was varied.
        trials: all variants that were tried.
        order: the comparison of the orders; None if there is none. Then the order is not settled.
    """
    compared = [(fact, best, rival) for fact in _FACTS for best, rival in _compared(base, trials, fact)]
    losses = [
        order.loss if order is not None and fact is _COLOR else best.person_ap - rival.person_ap
        for fact, best, rival in compared
    ]
    chances = corrected([chance_of(loss) for loss in losses])
    rivals: dict[_Fact, list[Rival]] = {}
    values: dict[_Fact, str] = {}
    for (fact, best, rival), loss, chance in zip(compared, losses, chances, strict=True):
        values[fact] = fact.value(best.variant)
        value, mean = fact.value(rival.variant), float(loss.mean())
        if fact is not _COLOR:
            found = Rival(value, mean, best.separation - rival.separation, chance)
        elif order is None:
            found = Rival(value, mean, best.separation - rival.separation, chance, lead=0.0)
        else:
            found = Rival(value, mean, order.separation_loss, chance, order.fit, order.lead)
        rivals.setdefault(fact, []).append(found)
    return tuple(
        Finding(fact.name, values[fact], tuple(sorted(found, key=lambda rival: rival.loss)))
        for fact, found in rivals.items()
    )


@dataclass(frozen=True)
class _Fact:
    """A fact that is varied: its value in a variant, and what rivals must share with the best variant."""

    name: str
    value: Callable[[Variant], str]
    shared: Callable[[Variant], Hashable]


_COLOR: Final = _Fact("color", lambda item: item.color, lambda item: (item.size, item.flip))
_FACTS: Final = (
    _COLOR,
    _Fact("scale", lambda item: f"{item.scaling.scale:g}", lambda item: (item.size, item.flip)),
    _Fact("mean and std", lambda item: item.scaling.name, lambda item: (item.size, item.flip, item.scaling.scale)),
    _Fact("size", lambda item: f"{item.size[0]}x{item.size[1]}", lambda item: item.flip),
    _Fact("flip", lambda item: "on" if item.flip else "off", lambda item: (item.color, item.scaling, item.size)),
)


def _compared(base: Trial, trials: list[Trial], fact: _Fact) -> list[tuple[Trial, Trial]]:
    """The best variant, and the best one for each other value of a fact."""
    best: dict[str, Trial] = {}
    for trial in ordered(trials, base.variant.color):
        if fact.shared(trial.variant) == fact.shared(base.variant):
            best.setdefault(fact.value(trial.variant), trial)
    first, *others = best.values()
    return [(first, other) for other in others]


def ordered(trials: Iterable[Trial], color: str | None = None) -> list[Trial]:
    """Best first: by mAP, then by separation; equal ones in the order of trial, the most usual first.

    Args:
        trials: the variants.
        color: the better order of channels, whose variants come before all others; None if it is not known.
    """
    return sorted(
        trials,
        key=lambda trial: (
            trial.variant.color != color,
            -round(trial.mean_ap, _DIGITS),
            -round(trial.separation, _DIGITS),
        ),
    )
