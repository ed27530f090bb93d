"""Fit thresholds per search on half of the people, and measure FPIR on the other half: halves x seeds.

Takes a model or checkpoint with a dataset, or descriptors in a NumPy file (.npz) with the arrays ``query``,
``query_persons``, ``query_cameras``, ``gallery``, ``gallery_persons`` and ``gallery_cameras``.

Run: python benchmarks/open_set.py MODEL --dataset DATASET [--seeds 10] [--save descriptors.npz]
     python benchmarks/open_set.py descriptors.npz
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from common import table_row, watched
from rrid_edge.engines import open_engine
from rrid_edge.model.names import is_model
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.search_fitting import check_halves
from rrid_edge.ranking.searches import measure_searches, split_people

_FACTOR = 1.5

Sides = tuple[LabelledCrops, LabelledCrops]


def embedded(model: Path, dataset: Path, runtime: str) -> Sides:
    """Embed the test split of a dataset."""
    from rrid_export import evaluation
    from rrid_export.source import load_source
    from rrid_export.torch_engine import TorchEngine
    from rrid_train.data.layout import load_dataset

    data = load_dataset(dataset, num_val=0)
    with open_engine(model, runtime) if is_model(model) else TorchEngine(load_source(model)) as engine:
        split = evaluation.evaluate(engine, data, evaluation.EvaluationSettings()).split
    return split.query, split.gallery


def stored(path: Path) -> Sides:
    """Read descriptors from a NumPy file."""
    with np.load(path) as arrays:
        query, gallery = (
            LabelledCrops(arrays[side], Labels.of(arrays[f"{side}_persons"], arrays[f"{side}_cameras"]))
            for side in ("query", "gallery")
        )
    return query, gallery


def save(path: Path, sides: Sides) -> None:
    """Write descriptors for :func:`stored`."""
    query, gallery = sides
    np.savez(
        path,
        query=query.descriptors.astype(np.float16),
        query_persons=query.labels.persons,
        query_cameras=query.labels.cameras,
        gallery=gallery.descriptors.astype(np.float16),
        gallery_persons=gallery.labels.persons,
        gallery_cameras=gallery.labels.cameras,
    )


def main() -> None:
    """Print measured / asked per rate and size: mean, smallest and largest over all halves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    sides = (
        stored(options.model) if options.dataset is None else embedded(options.model, options.dataset, options.runtime)
    )
    if options.save is not None:
        save(options.save, sides)
    ratios: dict[tuple[float, int], list[tuple[int, float]]] = defaultdict(list)
    for seed in range(options.seeds):
        first, second = (measure_searches(*half, seed=seed) for half in split_people(*sides, seed=seed))
        checks = check_halves(first, second, options.rates)
        sizes = sorted({check.size for check in checks})
        for check in checks:
            # The largest size differs a little from seed to seed.
            ratios[check.fpir, sizes.index(check.size)] += [(check.size, rate / check.fpir) for rate in check.measured]
    people = len(np.unique(sides[0].labels.persons[sides[0].labels.persons > 0]))
    print(f"{people} people, {len(sides[0])} queries, {len(sides[1])} gallery crops; {options.seeds} halves, both ways")
    print(table_row(["asked FPIR", "gallery", "measured / asked", "smallest", "largest", f"within {_FACTOR}x"]))
    print(table_row(["---"] * 6))
    for (rate, _), found in sorted(ratios.items()):
        values = np.array([ratio for _, ratio in found])
        within = np.mean((values < _FACTOR) & (values > 1 / _FACTOR))
        size = round(float(np.mean([size for size, _ in found])))
        cells = (f"{rate:g}", f"{size:,}", f"{values.mean():.2f}", f"{values.min():.2f}", f"{values.max():.2f}")
        print(table_row([*cells, f"{within:.0%}"]))


if __name__ == "__main__":
    watched(main)
