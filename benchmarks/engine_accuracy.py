"""Measure every precision on a large test split: cosines, first answers, mAP with its interval, TPIR at FPIR.

Thresholds per search are measured with the reference, as all precisions of a network share them. Each engine's own FPIR
and TPIR at these thresholds say whether that is right. Engines are those of ``verdicts.py``.

Run: python benchmarks/engine_accuracy.py runs/demo/best.safetensors --data demo-large --int8 rrid.int8.onnx
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from common import table_row, watched
from rrid_edge.crops.images import read_image
from rrid_edge.parity.agreement import compare, row_cosines
from rrid_edge.parity.check import ranking_changes
from rrid_edge.ranking.labels import LabelledCrops
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_descriptors
from rrid_edge.ranking.open_set import OpenSetRates, true_positive
from rrid_edge.ranking.search_fitting import fit_open_set
from rrid_edge.ranking.searches import SearchScores, measure_searches
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import export_onnx
from rrid_export.source import load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.data.layout import load_dataset
from rrid_train.data.samples import labels_of
from verdicts import Cache, Descriptors, healthy

HEAD = (
    "engine",
    "1 - min cosine",
    "1 - mean cosine",
    "error of a score",
    "changed (right to wrong, reverse)",
    "counted",
    "mAP change, 95 % interval",
    "rank-1 change, 95 % interval",
    "FPIR, TPIR where 0.01 is asked",
    "where 0.1 is asked",
)
FPIRS = (0.01, 0.1)


class Sides:
    """The test split: labels of queries and gallery; descriptors come in this order."""

    def __init__(self, data: Path) -> None:
        self.dataset = load_dataset(data)
        self.samples = [*self.dataset.query, *self.dataset.gallery]
        self.labels = labels_of(self.samples)

    def split(self, descriptors: Descriptors) -> tuple[LabelledCrops, LabelledCrops]:
        """Queries and gallery."""
        queries = np.arange(len(self.samples)) < len(self.dataset.query)
        query, gallery = (LabelledCrops(descriptors[rows], self.labels[rows]) for rows in (queries, ~queries))
        return query, gallery

    def ranking(self, descriptors: Descriptors) -> RankingMetrics:
        """Metrics of the queries."""
        return evaluate_descriptors(*self.split(descriptors))

    def searches(self, descriptors: Descriptors) -> SearchScores:
        """Scores of searches for present and absent people."""
        return measure_searches(*self.split(descriptors))


def row(name: str, sides: Sides, reference: Descriptors, found: Descriptors, thresholds: list[float]) -> list[str]:
    """Return one line of the table."""
    agreement = compare(reference, found, ("all",), sides.labels)
    before, after = sides.ranking(reference), sides.ranking(found)
    changes = ranking_changes(before, after)
    scores = sides.searches(found)
    rates = OpenSetRates(scores, scores.largest_size)
    cosines = row_cosines(reference, found)
    flips = f"{agreement.right_to_wrong}, {agreement.wrong_to_right}"
    return [
        name,
        f"{1 - cosines.min():.1e}",
        f"{1 - cosines.mean():.1e}",
        f"{agreement.pair_error:.1e}",
        f"{agreement.changed} of {agreement.answers:,} ({flips})",
        f"{agreement.counted / agreement.answers:.2%}",
        *(f"{100 * change.mean:+.3f} ({100 * change.low:+.3f} to {100 * change.high:+.3f})" for change in changes),
        *(f"{rates.false_positive(score):.4f}, {true_positive(scores, score):.3f}" for score in thresholds),
    ]


def main() -> None:
    """Compute descriptors, and print the table as Markdown. Changes are in percentage points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="dataset with a test split")
    parser.add_argument("--int8", type=Path, help="int8 file of the checkpoint, by rrid-edge calibrate")
    parser.add_argument("--cache", type=Path, help="folder that keeps the descriptors")
    arguments = parser.parse_args()
    source, sides = load_source(arguments.checkpoint), Sides(arguments.data)
    spec = source.spec(flip=True)
    pixels = np.stack([read_image(sample.path, spec.height_px, spec.width_px) for sample in sides.samples])
    with tempfile.TemporaryDirectory() as scratch:
        cache, graph = Cache(arguments.cache or Path(scratch)), Path(scratch) / "rrid.onnx"
        export_onnx(InferenceBranch(source.model).eval(), spec, graph)
        reference = cache.get("reference", lambda: TorchEngine(source).run(pixels))
        scores, metrics = sides.searches(reference), sides.ranking(reference)
        fitted = fit_open_set(scores)
        thresholds = [fitted.score(scores.largest_size, fpir) for fpir in FPIRS]
        found = ", ".join(f"{true_positive(scores, score) or 0:.3f}" for score in thresholds)
        print(
            f"mAP {metrics.mean_ap:.4f}, rank-1 {metrics.cmc[1]:.4f}, {metrics.valid_queries} queries, gallery of "
            f"{scores.largest_size:,} crops, TPIR {found}"
        )
        print(table_row(HEAD), table_row(["---"] * len(HEAD)), sep="\n")
        for name, _, run in healthy(source, graph, arguments.int8):
            descriptors = cache.get(name, lambda run=run: run(pixels))  # type: ignore[misc]
            print(table_row(row(name, sides, reference, descriptors, thresholds)), flush=True)


if __name__ == "__main__":
    watched(main)
