"""Suggest what a network is fed: try the usual ways on labelled crops, and say which choices the crops settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from rrid_edge.parity.reference import CropFiles
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_edge.ranking.sampling import PeopleSample
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.foreign import ForeignNetwork, refused
from rrid_export.adopt.telling import LEVEL, chance_of, corrected
from rrid_export.adopt.trials import Bench, Trial
from rrid_export.adopt.variants import Space, Variant, families_like

_DIGITS: Final = 3
"""Digits of mAP and separation that count for the order. Variants that are equal in both come in the usual order."""


@dataclass(frozen=True)
class SuggestSettings:
    """What to try, and on which crops.

    Attributes:
        crops: labelled crops; see :func:`rrid_export.adopt.labelled.labelled_files`.
        choices: what the caller says about the network; these facts are not varied.
        flip: what the caller says about mirrored images; None tries both.
        seed: seed of the choice of crops.
    """

    crops: CropFiles
    choices: Choices
    flip: bool | None = None
    seed: int = 0


@dataclass(frozen=True)
class Rival:
    """The best variant with another value of one fact, beside the best variant.

    Attributes:
        value: its value, for example ``bgr``.
        loss: how much lower its mean average precision is, as the mean over people, in [-1, 1].
        separation_loss: how much lower its separation of pairs is.
        chance: p value of the paired randomisation test over people, corrected for all rivals of all facts.
        steady: whether its mAP is lower without the colour casts of the cameras too; True where that was not tried.
    """

    value: str
    loss: float
    separation_loss: float
    chance: float
    steady: bool = True

    @property
    def settled(self) -> bool:
        """Whether it is told from the best variant: beyond the noise, and no other measure disagrees."""
        return self.chance < LEVEL and self.separation_loss >= 0 and self.steady

    def describe(self) -> str:
        """The value, and what it loses."""
        return f"{self.value} (mAP {0 - 100 * self.loss:+.1f} points, d' {0 - self.separation_loss:+.2f})"


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
        noise = f"within the noise of {people} people"
        if any(rival.chance < LEVEL for rival in unsettled):
            noise = "the measures disagree"
        if any(not rival.steady for rival in unsettled):
            noise += f"; without the colour casts of the cameras, {unsettled[0].value} is better"
        return f"not settled: {self.fact} {self.value}, or {near}: {noise}"


@dataclass(frozen=True)
class Suggestions:
    """All variants that were tried, and what is settled.

    Attributes:
        trials: variants, best first: by mAP, and by separation where mAP is equal to 0.1 %.
        findings: one per fact that was varied.
        sample: the crops.
        seconds: how long the trials took.
        remarks: what was left out, one line each.
    """

    trials: tuple[Trial, ...]
    findings: tuple[Finding, ...]
    sample: PeopleSample
    seconds: float
    remarks: tuple[str, ...]

    def to_dict(self, command: Callable[[Trial], str]) -> dict[str, Any]:
        """As JSON-serialisable values.

        Args:
            command: makes the line to type for a trial.
        """
        variants = [
            {
                "mean_ap": trial.mean_ap,
                "rank_1": trial.rank_1,
                "separation": trial.separation,
                "height_px": trial.facts.height_px,
                "width_px": trial.facts.width_px,
                **asdict(trial.facts.preprocessing),
                "flip": trial.facts.flip,
                "families": families_like(trial.facts.preprocessing),
                "command": command(trial),
            }
            for trial in self.trials
        ]
        findings = [
            {
                "fact": finding.fact,
                "value": finding.value,
                "settled": finding.settled,
                "rivals": [asdict(rival) | {"settled": rival.settled} for rival in finding.rivals],
            }
            for finding in self.findings
        ]
        return {
            "variants": variants,
            "findings": findings,
            "sample": self.sample.to_dict(),
            "seconds": self.seconds,
            "remarks": list(self.remarks),
        }


class Suggester:
    """Tries the usual ways to feed a network.

    Args:
        network: the network.
        settings: see :class:`SuggestSettings`.

    Raises:
        UsageError: the crops are unlabelled, or of too few people or cameras; or a choice contradicts the file.
        ModelFileError: the network cannot be run.
    """

    def __init__(self, network: ForeignNetwork, settings: SuggestSettings) -> None:
        self._network = network
        space = Space.of(network, settings.choices, settings.flip)
        self._bench = Bench(network, settings.choices, space, settings.crops, settings.seed)
        self._space = self._bench.space

    @property
    def most_images(self) -> int:
        """Images that the network has to take at most; a mirrored image counts as one of its own."""
        size, *others = self._space.sizes
        count = len(list(self._space.at(size))) * (2 if others else 1) + len(others)
        views = 2 if self._space.flips == (True,) else 1
        count += 2 * (len(self._space.colors) - 1)
        return len(self._bench.crops.images) * (count * views + 2 * (len(self._space.flips) - 1))

    def plan(self) -> str:
        """One line: how many images the network has to take, and about how long that takes."""
        images = self.most_images
        seconds = max(images * self._bench.seconds_per_image, 1)
        return f"up to {images:,} runs of the network on a crop, about {seconds:.0f} s"

    def run(self, progress: Progress = NO_PROGRESS) -> Suggestions:
        """Try the variants: all colours and scalings at one size, then other sizes and the mirror with the best.

        If another size is better, all colours and scalings are tried there too.

        Raises:
            UsageError: the network is said to normalise, and does not.
            ModelFileError: no variant gives finite descriptors.
        """
        start = time.perf_counter()
        progress.start(self.most_images)
        first, *others = self._space.sizes
        trials = self._tried(self._space.at(first), progress)
        if not trials:
            raise refused(self._network.path, "its descriptors are not finite with any usual preprocessing")
        best = _ordered(trials)[0].variant
        trials += self._tried((Variant(best.color, best.scaling, size, best.flip) for size in others), progress)
        best = _ordered(trials)[0].variant
        if best.size != first:
            done = {trial.variant for trial in trials}
            trials += self._tried((item for item in self._space.at(best.size) if item not in done), progress)
            best = _ordered(trials)[0].variant
        base = _ordered(trials)[0]
        if len(self._space.flips) > 1:
            trials += self._tried([Variant(best.color, best.scaling, best.size, True)], progress)
        return Suggestions(
            tuple(_ordered(trials)),
            findings_of(base, trials, steady=self._is_steady(base, trials, progress)),
            self._bench.crops.sample,
            time.perf_counter() - start,
            tuple(self._bench.remarks),
        )

    def _is_steady(self, base: Trial, trials: list[Trial], progress: Progress) -> bool:
        """Whether the best order of channels stays the best on crops without the colour casts of their cameras.

        Casts can favour the wrong order: a network takes those of its training cameras well, and no others.
        """
        rivals = [other for best, other in _compared(base, trials, _COLOR) if best is base]
        pair = [self._bench.try_variant(one.variant, progress, balanced=True) for one in (base, *rivals)[:2] if rivals]
        first, *others = pair or [None]
        return all(first is None or other is None or first.mean_ap >= other.mean_ap for other in others)

    def _tried(self, variants: Iterable[Variant], progress: Progress) -> list[Trial]:
        found = (self._bench.try_variant(variant, progress) for variant in variants)
        return [trial for trial in found if trial is not None]


def findings_of(base: Trial, trials: list[Trial], *, steady: bool = True) -> tuple[Finding, ...]:
    """What the crops say about each fact that was varied.

    For each other value of a fact, the best variant with it is compared with the best one, person by person.

    Args:
        base: the best variant, without a mirror if that was varied.
        trials: all variants that were tried.
        steady: whether the best order of channels stays the best without the colour casts of the cameras.
    """
    compared = [(fact, best, rival) for fact in _FACTS for best, rival in _compared(base, trials, fact)]
    losses = [best.person_ap - rival.person_ap for _, best, rival in compared]
    chances = corrected([chance_of(loss) for loss in losses])
    rivals: dict[_Fact, list[Rival]] = {}
    values: dict[_Fact, str] = {}
    for (fact, best, rival), loss, chance in zip(compared, losses, chances, strict=True):
        values[fact] = fact.value(best.variant)
        gap = best.separation - rival.separation
        is_steady = steady or fact is not _COLOR
        found = Rival(fact.value(rival.variant), float(loss.mean()), gap, chance, is_steady)
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
    for trial in _ordered(trials):
        if fact.shared(trial.variant) == fact.shared(base.variant):
            best.setdefault(fact.value(trial.variant), trial)
    first, *others = best.values()
    return [(first, other) for other in others]


def _ordered(trials: list[Trial]) -> list[Trial]:
    """Best first; equal ones in the order of trial, the most usual first."""
    return sorted(trials, key=lambda trial: (-round(trial.mean_ap, _DIGITS), -round(trial.separation, _DIGITS)))
