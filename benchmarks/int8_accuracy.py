"""Measure what the int8 forms of a float32 model change in a ranking: mAP and rank-1 on people of the test split.

Ranges and weights come from crops of the training split. The forms run in exact arithmetic (rounded values in float32),
so no processor's saturation disturbs them. Queries and gallery are all crops of some test people, with strangers.

Run: python benchmarks/int8_accuracy.py rrid.onnx --data demo --nncf /path/to/venv/bin/python
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common import table_row, watched
from int8_graph import Pixels, exactly, forms, in_batches, nncf_graph
from rrid_calib.crops import choose_check, find_crops, read_crops
from rrid_calib.ranges import METHODS
from rrid_edge.crops.images import read_image
from rrid_edge.machine.processor import processor_name
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.agreement import compare
from rrid_edge.parity.check import ranking_changes
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_descriptors
from rrid_edge.ranking.sampling import sample_people
from rrid_train.data.layout import load_dataset
from rrid_train.data.samples import labels_of
from verdicts import Cache, Descriptors

HEAD = (
    "graph",
    "1 - min cosine",
    "1 - mean cosine",
    "top-1",
    "mAP change, 95 % interval",
    "rank-1 change, 95 % interval",
)


class Ranking:
    """Crops of some people of a test split: queries first, then the gallery.

    Args:
        data: folder of the dataset.
        count: crops to take, all of a person.
    """

    def __init__(self, data: Path, count: int) -> None:
        dataset = load_dataset(data)
        samples = [*dataset.query, *dataset.gallery]
        rows = sample_people(labels_of(samples), count, seed=0).rows
        self.paths = [samples[row].path for row in rows]
        self.labels: Labels = labels_of([samples[row] for row in rows])
        self._queries = rows < len(dataset.query)

    def metrics(self, descriptors: Descriptors) -> RankingMetrics:
        """Metrics of the queries."""
        query, gallery = (
            LabelledCrops(descriptors[rows], self.labels[rows]) for rows in (self._queries, ~self._queries)
        )
        return evaluate_descriptors(query, gallery)

    def row(self, name: str, reference: Descriptors, found: Descriptors) -> list[str]:
        """One line of the table. Changes are in percentage points."""
        told = compare(reference, found, ("all",), self.labels)
        before, after = self.metrics(reference), self.metrics(found)
        changes = ranking_changes(before, after)
        return [
            name,
            f"{1 - told.min_cosine:.1e}",
            f"{1 - told.mean_cosine:.1e}",
            f"{told.top1_agreement:.1%}",
            *(f"{100 * item.mean:+.2f} ({100 * item.low:+.2f} to {100 * item.high:+.2f})" for item in changes),
        ]


def graphs(options: argparse.Namespace, size: tuple[int, int], folder: Path) -> Iterator[tuple[str, bytes | Path]]:
    """Each form, and NNCF's graph, with its name."""
    _, others = choose_check(find_crops(options.data), 1, 0)
    pixels = read_crops(others[: options.crops], *size).pixels
    yield from forms(options.model, pixels, options.method).items()
    if options.nncf:
        yield nncf_graph(options.nncf, options.model, pixels, folder)


def descriptors_of(graph: bytes | Path, pixels: Pixels, threads: int) -> Descriptors:
    """Run a graph in exact arithmetic."""
    return in_batches(exactly(graph, threads), pixels)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="float32 ONNX file")
    parser.add_argument("--data", type=Path, required=True, help="dataset with a training and a test split")
    parser.add_argument("--nncf", help="Python of an environment with nncf and openvino; without it, NNCF is left out")
    parser.add_argument("--crops", type=int, default=120, help="training crops to calibrate on")
    parser.add_argument("--measured", type=int, default=2000, help="test crops to measure on")
    parser.add_argument("--method", choices=METHODS, default="minmax")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="folder that keeps the descriptors, to go on after an interruption")
    return parser.parse_args()


def main() -> None:
    """Print one table."""
    options = _options()
    spec, ranking = read_spec(options.model), Ranking(options.data, options.measured)
    size = (spec.height_px, spec.width_px)
    pixels = np.stack([read_image(path, *size) for path in ranking.paths])
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(options.cache or Path(scratch))
        content = options.model.read_bytes()
        reference = cache.get("float32", lambda: descriptors_of(content, pixels, options.threads))
        before = ranking.metrics(reference)
        print(
            f"{processor_name()}; {spec.backbone}, {options.method} over {options.crops} crops; {before.valid_queries} "
            f"queries, {len(pixels)} crops: mAP {before.mean_ap:.4f}, rank-1 {before.cmc[1]:.4f}"
        )
        print(table_row(HEAD), table_row(["---"] * len(HEAD)), sep="\n")
        for name, graph in graphs(options, size, Path(scratch)):
            found = cache.get(name, lambda graph=graph: descriptors_of(graph, pixels, options.threads))  # type: ignore[misc]
            print(table_row(ranking.row(name, reference, found)), flush=True)


if __name__ == "__main__":
    watched(main)
