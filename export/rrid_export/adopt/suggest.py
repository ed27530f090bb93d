"""Suggest what a network is fed: try the usual ways on labelled crops, and say which choices the crops settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rrid_edge.model.preprocessing import COLORS
from rrid_edge.parity.reference import CropFiles
from rrid_edge.progress import NO_PROGRESS, Progress
from rrid_edge.ranking.sampling import PeopleSample
from rrid_export.adopt.facts import Choices
from rrid_export.adopt.findings import Finding, findings_of, ordered
from rrid_export.adopt.foreign import ForeignNetwork, refused
from rrid_export.adopt.orders import FORMS, OrderVerdict, measures_of
from rrid_export.adopt.stored import StoredStatistics
from rrid_export.adopt.trials import Bench, Trial
from rrid_export.adopt.variants import Space, Variant, families_like


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
class Suggestions:
    """All variants that were tried, and what is settled.

    Attributes:
        trials: variants, best first: those of the better order of channels, then by mAP, and by separation where mAP is
            equal to 0.1 %.
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
        self._statistics = StoredStatistics.of(network) if len(self._space.colors) > 1 else None

    @property
    def most_images(self) -> int:
        """Images that the network has to take at most; a mirrored image counts as one of its own."""
        size, *others = self._space.sizes
        count = len(list(self._space.at(size))) * (2 if others else 1) + len(others)
        views = 2 if self._space.flips == (True,) else 1
        orders = (2 if others else 1) * 2 * (len(self._space.colors) - 1)
        count += orders * len(FORMS)
        count = count * views + 2 * (len(self._space.flips) - 1) + orders * (self._statistics is not None)
        return len(self._bench.crops.images) * count

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
        order = self._order(trials, progress)
        best = _best(trials, order).variant
        trials += self._tried((Variant(best.color, best.scaling, size, best.flip) for size in others), progress)
        best = _best(trials, order).variant
        if best.size != first:
            done = {trial.variant for trial in trials}
            trials += self._tried((item for item in self._space.at(best.size) if item not in done), progress)
            order = self._order([trial for trial in trials if trial.variant.size == best.size], progress)
        base = _best(trials, order)
        best = base.variant
        if len(self._space.flips) > 1:
            trials += self._tried([Variant(best.color, best.scaling, best.size, True)], progress)
        return Suggestions(
            tuple(ordered(trials, best.color)),
            findings_of(base, trials, order),
            self._bench.crops.sample,
            time.perf_counter() - start,
            tuple(self._bench.remarks),
        )

    def _order(self, trials: list[Trial], progress: Progress) -> OrderVerdict | None:
        """Compare both orders of channels with the scaling of the best variant; None if one of them is not finite."""
        scaling = ordered(trials)[0].variant.scaling
        alike = [
            one
            for one in trials
            if (one.variant.scaling.name, one.variant.scaling.scale) == (scaling.name, scaling.scale)
        ]
        best = {trial.variant.color: trial for trial in alike}
        if len(best) != len(COLORS):
            return None
        one, other = (measures_of(self._bench, best[color], self._statistics, progress) for color in COLORS)
        return None if one is None or other is None else OrderVerdict.of(one, other)

    def _tried(self, variants: Iterable[Variant], progress: Progress) -> list[Trial]:
        found = (self._bench.try_variant(variant, progress) for variant in variants)
        return [trial for trial in found if trial is not None]


def _best(trials: list[Trial], order: OrderVerdict | None) -> Trial:
    return ordered(trials, None if order is None else order.best.color)[0]
