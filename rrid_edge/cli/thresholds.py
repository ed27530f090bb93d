"""Thresholds that ``rrid-edge evaluate`` measured: their tables, and the file beside the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rrid_edge.cli.common import say, show
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.ranking.search_thresholds import OpenSet
    from rrid_edge.ranking.threshold_file import Thresholds
    from rrid_edge.ranking.thresholds import PairThresholds


_CERTAIN_PEOPLE: Final = 20
"""People behind a rate that make it certain enough to say nothing: a standard error of 22 %."""
_ONE_PERSON: Final = 1.5


def print_thresholds(thresholds: Thresholds) -> None:
    """Print the thresholds per pair, and those per search for galleries of all measured sizes."""
    _print_pairs(thresholds.pairs, "sequences or files" if thresholds.same_camera else "cameras")
    _print_searches(thresholds.searches)


def check_file(path: Path, fingerprint: str) -> None:
    """Refuse a file of thresholds that a newer version wrote, before hours of measuring.

    Raises:
        ModelFileError: as said.
    """
    from rrid_edge.ranking.threshold_file import replaceable_at

    replaceable_at(path, fingerprint)


def keep_thresholds(path: Path, fingerprint: str, thresholds: Thresholds, *, use: bool) -> None:
    """Add thresholds to the file beside the model, and say whose are in use.

    Args:
        path: the file.
        fingerprint: fingerprint of the network.
        thresholds: what was measured.
        use: use these from now on.

    Raises:
        ModelFileError: a newer version wrote the file.
        OutputError: the file cannot be written.
    """
    from rrid_edge.ranking.threshold_file import merged, replaceable_at, save_thresholds

    stored, damage = replaceable_at(path, fingerprint)
    if damage:
        say(f"replaced: {damage}")
    kept = merged(stored, fingerprint, [thresholds], use=use)
    save_thresholds(path, kept)
    name, where = printable(thresholds.dataset), printable(path)
    if kept.in_use == thresholds.dataset:
        say(f"thresholds for match --fpir and --fpr: {where} ({name})")
    else:
        say(
            f"thresholds of {name} added: {where}; match uses those of {printable(kept.in_use)}; for these, give match "
            f"--thresholds-of {name}, or evaluate --use-thresholds"
        )


def _print_pairs(pairs: PairThresholds, views: str) -> None:
    from rrid_edge.ranking.thresholds import needed_pairs

    genuine = f"{pairs.genuine_pairs:,} genuine pairs (one person, two {views})"
    show(f"thresholds per pair, from {genuine} and {pairs.impostor_pairs:,} impostor pairs (two people):")
    for point in pairs.points:
        if point.score is None:
            show(f"  FPR {point.fpr:g}: unknown, needs at least {needed_pairs(point.fpr):,} impostor pairs")
        else:
            show(f"  FPR {point.fpr:g}: TPR {point.tpr:.4f} at score >= {point.score:.4f}")


def _print_searches(found: OpenSet) -> None:
    from rrid_edge.ranking.search_thresholds import needed

    searches = f"{found.searches:,} searches for {found.people:,} absent people"
    show(f"thresholds per search, from {searches} and {found.present_searches:,} for present ones (score TPIR):")
    known = found.known
    if known:
        headings = (f"FPIR {rate.fpir:g}" for rate in known)
        show(f"  {'gallery':>8}" + "".join(f"  {heading:>13}" for heading in headings))
    for number, size in enumerate(found.sizes if known else ()):
        points = [rate.points[number] for rate in known]
        cells = (f"{point.score:.4f} {'-' if point.tpir is None else f'{point.tpir:.4f}':>6}" for point in points)
        show(f"  {size:>8,}" + "".join(f"  {cell:>13}" for cell in cells))
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


def _print_held_out(found: OpenSet) -> None:
    """The check on held-out people: per rate, measured rates in galleries of some sizes."""
    if not found.held_out:
        return
    show("  fitted on half of the people, measured on the other half (mean of both ways):")
    for rate in sorted({check.fpir for check in found.held_out}):
        checks = [check for check in found.held_out if check.fpir == rate]
        told = ", ".join(f"{check.ratio * rate:.4f} ({check.ratio:.2f}x) at {check.size:,} crops" for check in checks)
        show(f"    FPIR {rate:g}: {told}")
