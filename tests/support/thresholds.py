"""Stored thresholds: records of a dataset, and files of them beside a model."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.model.names import thresholds_path
from rrid_edge.ranking.extremes import ExtremeFit
from rrid_edge.ranking.search_thresholds import HeldOut, OpenSet, SearchPoint, SearchRate
from rrid_edge.ranking.threshold_file import ModelThresholds, Thresholds, save_thresholds
from rrid_edge.ranking.thresholds import PairThresholds, Threshold

SIZES = (10, 100, 1000)
NOTHING = OpenSet(0, 0, 0, (), ())


def open_set(rates: dict[float, float] | None = None, *, growth: float = 0.05) -> OpenSet:
    """Thresholds per search: by rate the score at 1,000 crops, which grows by ``growth`` per factor of e."""
    found = []
    for rate, score in sorted((rates or {0.01: 0.6, 0.1: 0.5}).items()):
        fit = ExtremeFit(SIZES[-1], score, growth, 0.0)
        points = tuple(SearchPoint(size, fit.score(size), 0.9, 5.0) for size in SIZES)
        found.append(SearchRate(rate, fit, points))
    return OpenSet(2000, 500, 700, SIZES, (SearchRate(0.001, None), *found), (HeldOut(0.1, 100, (0.09, 0.12)),))


def record(
    dataset: str = "tiny", points: tuple[Threshold, ...] = (), searches: OpenSet = NOTHING, people: int = 7
) -> Thresholds:
    """Thresholds of one dataset."""
    return Thresholds(dataset, people, False, PairThresholds(5, 5000, points), searches)


def keep(model: Path, fingerprint: str, *records: Thresholds) -> Path:
    """Write thresholds beside a model; the first record is in use. Returns the file."""
    path = thresholds_path(model)
    save_thresholds(path, ModelThresholds(fingerprint, records[0].dataset, records))
    return path
