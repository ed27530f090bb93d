"""Thresholds that ``rrid-edge evaluate`` measured: their tables, and the file beside the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rrid_edge.cli.common import say, show
from rrid_edge.cli.wrapping import show_beside
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.ranking.search_thresholds import OpenSet
    from rrid_edge.ranking.threshold_file import Thresholds
    from rrid_edge.ranking.thresholds import PairThresholds
    from rrid_train.data.layout import Dataset


_RATES_PER_TABLE = 4
"""Columns of rates that fit 80 columns."""
_CERTAIN_PEOPLE: Final = 20
"""People behind a rate that make it certain enough to say nothing: a standard error of 22 %."""
_ONE_PERSON: Final = 1.5


def print_thresholds(thresholds: Thresholds) -> None:
    """Print the thresholds per pair, and those per search for galleries of all measured sizes."""
    _print_pairs(thresholds.pairs, "sequences or files" if thresholds.same_camera else "cameras")
    _print_searches(thresholds.searches)


@dataclass(frozen=True)
class Keeping:
    """Where thresholds are kept, and under which name.

    Attributes:
        path: the file beside the model.
        name: name of the record.
        use: use these thresholds from now on; they may also replace those of other data.
    """

    path: Path
    name: str
    use: bool

    def check(self, fingerprint: str, data: Dataset, *, same_camera: bool) -> None:
        """Refuse, before anything is measured, to replace thresholds of other data.

        Args:
            fingerprint: fingerprint of the network.
            data: what will be measured, without what is not scored.
            same_camera: as in the settings of the evaluation.

        Raises:
            UsageError: the file has thresholds of other data under this name.
            ModelFileError: a newer version wrote the file.
        """
        from rrid_edge.ranking.threshold_file import replaceable_at
        from rrid_edge.ranking.thresholds import count_pairs
        from rrid_train.data.samples import paired_labels

        stored, _ = replaceable_at(self.path, fingerprint)
        known = None if stored is None else stored.of(self.name)
        can = data.measurable(same_camera=same_camera)
        if known is None or self.use or not can.thresholds:
            return
        pairs = count_pairs(*paired_labels(data.query, data.gallery), same_camera=same_camera)
        here = (can.persons, same_camera, pairs)
        if here != (known.people, known.same_camera, (known.pairs.genuine_pairs, known.pairs.impostor_pairs)):
            raise UsageError(
                f"{printable(self.path)}: the {known.describe()}, were measured on other data or by another protocol; "
                "keep both with --thresholds-as NAME, replace them with --use-thresholds, or measure with "
                "--no-thresholds"
            )


def keep_thresholds(keeping: Keeping, fingerprint: str, thresholds: Thresholds) -> None:
    """Add thresholds to the file beside the model, and say whose are in use.

    Args:
        keeping: where and how.
        fingerprint: fingerprint of the network.
        thresholds: what was measured.

    Raises:
        ModelFileError: a newer version wrote the file.
        OutputError: the file cannot be written.
    """
    from rrid_edge.ranking.threshold_file import merged, replaceable_at, save_thresholds

    path = keeping.path
    stored, damage = replaceable_at(path, fingerprint)
    if damage:
        say(f"replaced: {damage}")
    kept = merged(stored, fingerprint, [replace(thresholds, dataset=keeping.name)], use=keeping.use)
    save_thresholds(path, kept)
    name, where = printable(keeping.name), printable(path)
    if kept.in_use == keeping.name:
        say(f"thresholds for match --fpir and --fpr: {where} ({name})")
    else:
        say(
            f"thresholds of {name} added: {where}; match uses those of {printable(kept.in_use)}; for these, give match "
            f"--thresholds-of {name}, or evaluate --use-thresholds"
        )


def _print_pairs(pairs: PairThresholds, views: str) -> None:
    from rrid_edge.ranking.thresholds import needed_pairs

    genuine = f"{pairs.genuine_pairs:,} genuine pairs (one person, two {views})"
    show_beside("thresholds per pair, ", f"from {genuine} and {pairs.impostor_pairs:,} impostor pairs (two people):")
    for point in pairs.points:
        if point.score is None:
            show(f"  FPR {point.fpr:g}: unknown, needs at least {needed_pairs(point.fpr):,} impostor pairs")
        else:
            show(f"  FPR {point.fpr:g}: TPR {point.tpr:.4f} at score >= {point.score:.4f}")


def _print_searches(found: OpenSet) -> None:
    from rrid_edge.ranking.search_thresholds import needed

    searches = f"{found.searches:,} searches for {found.people:,} absent people"
    show_beside(
        "thresholds per search, ", f"from {searches} and {found.present_searches:,} for present ones (score TPIR):"
    )
    known = found.known
    _print_rates(found)
    for rate in known:
        behind = rate.points[-1].people_behind
        if behind < _CERTAIN_PEOPLE:
            factor = math.exp(1 / math.sqrt(max(behind, 1.0)))
            few = f"about {max(1, round(behind))} {'person is' if behind < _ONE_PERSON else 'people are'} behind it"
            show(f"  FPIR {rate.fpir:g} at {found.sizes[-1]:,} crops: {few}; off by {factor:.1f}x is usual for others")
    for rate in found.rates:
        if rate.growth is None:
            people, count = needed(rate.fpir)
            show(f"  FPIR {rate.fpir:g}: unknown, needs at least {count:,} searches for {people:,} people")
    _print_held_out(found)


def _print_rates(found: OpenSet) -> None:
    """Score and TPIR of each rate by size of the gallery, in as many tables as fit 80 columns."""
    known = found.known
    tables = math.ceil(len(known) / _RATES_PER_TABLE)
    per_table = math.ceil(len(known) / max(1, tables))
    for first in range(0, len(known), max(1, per_table)):
        shown = known[first : first + per_table]
        headings = (f"FPIR {rate.fpir:g}" for rate in shown)
        show(f"  {'gallery':>8}" + "".join(f"  {heading:>13}" for heading in headings))
        for number, size in enumerate(found.sizes):
            points = [rate.points[number] for rate in shown]
            cells = (f"{point.score:.4f} {'-' if point.tpir is None else f'{point.tpir:.4f}':>6}" for point in points)
            show(f"  {size:>8,}" + "".join(f"  {cell:>13}" for cell in cells))


def _print_held_out(found: OpenSet) -> None:
    """The check on held-out people: per rate, measured rates in galleries of some sizes."""
    if not found.held_out:
        return
    show("  fitted on half of the people, measured on the other half (mean of both ways):")
    for rate in sorted({check.fpir for check in found.held_out}):
        checks = [check for check in found.held_out if check.fpir == rate]
        told = ", ".join(f"{check.ratio * rate:.4f} ({check.ratio:.2f}x) at {check.size:,} crops" for check in checks)
        show_beside(f"    FPIR {rate:g}: ", told)
