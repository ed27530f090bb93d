"""``rrid-edge evaluate``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.cli.options import PrecisionOption, RuntimeOption, ThreadsOption
from rrid_edge.errors import DatasetError, UsageError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rrid_edge.engines.base import Engine
    from rrid_edge.model.spec import ModelSpec
    from rrid_edge.ranking.labels import LabelledCrops
    from rrid_edge.ranking.metrics import RankingMetrics, RankingSettings
    from rrid_edge.ranking.rerank import RerankSettings
    from rrid_edge.ranking.thresholds import Thresholds
    from rrid_train.data.layout import Dataset, Sample


@app.command(
    epilog="Example: rrid-edge evaluate runs/demo/best.safetensors --dataset demo --sheets runs/demo/sheets",
    help="Measure a checkpoint or a model file on a dataset's test split: mAP, mINP, CMC, and the score thresholds for "
    "match --fpr, which are kept beside the model.",
)
def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (PyTorch runs it) or model file.")],
    dataset: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset_type: Annotated[str, typer.Option(help="auto, rrid, market1501, dukemtmc or cuhk03.")] = "auto",
    split: Annotated[int, typer.Option(help="Which split.")] = 0,
    splits_file: Annotated[str | None, typer.Option(help="Another name than splits.json.")] = None,
    protocol: Annotated[str, typer.Option(help="CMC protocol: market1501, allshots or cuhk03.")] = "market1501",
    ap: Annotated[
        str, typer.Option(help="Average precision: step, or trapezoid (the official MATLAB one, lower).")
    ] = "step",
    per_camera: Annotated[bool, typer.Option("--per-camera", help="Also measure every pair of cameras.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="k-reciprocal re-ranking.")] = False,
    k1: Annotated[int, typer.Option(help="Re-ranking: neighbours that must name each other.")] = 20,
    k2: Annotated[int, typer.Option(help="Re-ranking: neighbours whose encodings are averaged.")] = 6,
    lambda_value: Annotated[float, typer.Option("--lambda", help="Re-ranking: weight of the original distance.")] = 0.3,
    expand: Annotated[int, typer.Option(help="Average query expansion over so many nearest crops; 0 is off.")] = 0,
    sheets: Annotated[
        Path | None, typer.Option(help="Draw the worst, median and best queries into this folder.")
    ] = None,
    sheet_queries: Annotated[int, typer.Option(help="Queries of a sheet.")] = 6,
    fpr: Annotated[
        list[float] | None, typer.Option(help="False-positive rates of the thresholds; 1e-4, 1e-3 and 1e-2 otherwise.")
    ] = None,
    thresholds: Annotated[
        bool, typer.Option("--thresholds/--no-thresholds", help="Keep the thresholds beside the model.")
    ] = True,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonOption = False,
) -> None:
    require("rrid_train.data.layout", "train", "reading a dataset")
    from rrid_edge.model.names import thresholds_path
    from rrid_edge.ranking.metrics import RankingSettings
    from rrid_edge.ranking.rerank import RerankSettings
    from rrid_edge.ranking.thresholds import FALSE_POSITIVE_RATES, save_thresholds
    from rrid_train.data.layout import load_dataset

    settings = RankingSettings(protocol=protocol, ap=ap, per_camera=per_camera)
    second = RerankSettings(k1, k2, lambda_value) if rerank else None
    rates = tuple(fpr or FALSE_POSITIVE_RATES)
    _check(expand, rates, sheet_queries, sheets)
    data = load_dataset(dataset, dataset_type=dataset_type, split=split, splits_file=splits_file, combine_trainval=True)
    if not data.query or not data.gallery:
        raise UsageError(f"{printable(dataset)}: no test queries or no gallery in it")
    with _open(model, runtime, precision, threads) as engine:
        say(f"{printable(model)}: {engine.runtime}; {len(data.query)} queries, {len(data.gallery)} gallery images")
        run = _Run(
            data,
            engine.spec,
            _embed(engine, data.query, "queries"),
            _embed(engine, data.gallery, "gallery"),
            expand,
            second,
        )
        facts = {
            "model": str(model),
            "runtime": engine.runtime,
            "dataset": data.name,
            "rerank": rerank,
            "expand": expand,
        }
    metrics, points = run.metrics(settings), run.thresholds(rates)
    if as_json:
        values: dict[str, Any] = {key: value for key, value in asdict(metrics).items() if not hasattr(value, "shape")}
        print_json({**facts, **values, "thresholds": points.to_dict()})
    else:
        _print(data.name, metrics, points)
    if thresholds:
        path = thresholds_path(model)
        save_thresholds(path, points)
        say(f"thresholds for match --fpr: {printable(path)}")
    if sheets is not None:
        for path in run.draw(sheets, metrics, sheet_queries):
            say(f"written: {printable(path)}")


def _check(expand: int, rates: tuple[float, ...], sheet_queries: int, sheets: Path | None) -> None:
    """What can be refused before an hour of work."""
    if expand < 0:
        raise UsageError(f"--expand {expand} does not work: expected 0 or more")
    if not all(0 < rate < 1 for rate in rates):
        raise UsageError(f"--fpr {min(rates):g} does not work: expected rates between 0 and 1, for example 1e-3")
    if sheet_queries < 1:
        raise UsageError(f"--sheet-queries {sheet_queries} does not work: expected at least 1")
    if sheets is not None and sheets.exists() and not sheets.is_dir():
        raise UsageError(f"{printable(sheets)}: this is a file; give a folder for the sheets")


@dataclass(frozen=True)
class _Run:
    """Descriptors of a test split, and how they are ranked."""

    data: Dataset
    spec: ModelSpec
    query: LabelledCrops
    gallery: LabelledCrops
    expand: int
    rerank: RerankSettings | None

    def metrics(self, settings: RankingSettings) -> RankingMetrics:
        from rrid_edge.ranking.metrics import evaluate_descriptors, evaluate_ranking

        if self.rerank is None:
            return evaluate_descriptors(replace(self.query, descriptors=self._queries()), self.gallery, settings)
        return evaluate_ranking(self._reranked(), self.query.labels, self.gallery.labels, settings)

    def thresholds(self, rates: tuple[float, ...]) -> Thresholds:
        """Of plain cosines: what match compares."""
        from rrid_edge.ranking.thresholds import measure_thresholds

        return measure_thresholds(
            self.query, self.gallery, fingerprint=self.spec.fingerprint, dataset=self.data.name, rates=rates
        )

    def draw(self, folder: Path, metrics: RankingMetrics, count: int) -> list[Path]:
        """Write the sheets; returns their paths."""
        from rrid_edge.pictures.contact_sheet import contact_sheet, write_sheet
        from rrid_edge.pictures.ranked_lists import choose_queries, ranked_list

        written = []
        matrix = self._reranked() if self.rerank is not None else None
        queries = self._queries()
        for name, numbers in choose_queries(metrics.query_ap, count).items():
            results = []
            for number in numbers:
                distances = -(self.gallery.descriptors @ queries[number]) if matrix is None else matrix[number]
                blocks = len(self.spec.blocks)
                results.append(ranked_list(number, self.query, self.gallery, distances, 10, blocks))
            precisions = ", ".join(f"{metrics.query_ap[number]:.2f}" for number in numbers)
            footer = f"{self.data.name}, {name} queries; average precision from top to bottom: {precisions}"
            if self.expand or self.rerank:
                footer += "; scores are plain cosines, the order is that of the second look"
            sheet = contact_sheet(results, Path(), block_names=self.spec.blocks, footer=footer)
            write_sheet(folder / f"{name}.png", sheet)
            written.append(folder / f"{name}.png")
        return written

    def _queries(self) -> NDArray[np.float32]:
        if not self.expand:
            return self.query.descriptors
        from rrid_edge.ranking.rerank import average_query_expansion

        return average_query_expansion(self.query.descriptors, self.gallery.descriptors, neighbours=self.expand)

    def _reranked(self) -> NDArray[np.float32]:
        from rrid_edge.ranking.rerank import k_reciprocal

        assert self.rerank is not None
        return k_reciprocal(self._queries(), self.gallery.descriptors, self.rerank)


def _open(model: Path, runtime: str, precision: str | None, threads: int) -> Engine:
    from rrid_edge.model.names import is_model

    if is_model(model):
        from rrid_edge.engines import choose_runtime, open_engine

        choice = choose_runtime(model, runtime, precision=precision)
        say(choice.describe())
        return open_engine(model, choice.runtime, precision=precision, threads=threads)
    require("rrid_export.torch_engine", "export", "running a checkpoint")
    from rrid_export.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(model)


def _embed(engine: Engine, samples: tuple[Sample, ...], what: str) -> LabelledCrops:
    import numpy as np

    from rrid_edge.embedding.pipeline import embed_files
    from rrid_edge.ranking.labels import LabelledCrops
    from rrid_train.data.samples import labels_of

    paths = [sample.path for sample in samples]
    descriptors = np.empty((len(paths), engine.spec.dimension), np.float32)
    with ProgressBar(what) as bar:
        bar.start(len(paths))
        for batch in embed_files(engine, paths):
            if batch.failed:
                path, reason = batch.failed[0]
                raise DatasetError(
                    f"{printable(path)}: {reason}; an evaluation with missing images would be another one"
                )
            descriptors[batch.indices] = batch.descriptors
            bar.advance(batch.done)
    return LabelledCrops(descriptors, labels_of(samples), paths)


def _print(name: str, metrics: RankingMetrics, thresholds: Thresholds) -> None:
    print(
        f"{name}: mAP {metrics.mean_ap:.4f} ({metrics.ap}), mINP {metrics.mean_inp:.4f}, {metrics.valid_queries} valid queries"
    )
    print("  ".join(f"rank-{rank} {value:.4f}" for rank, value in metrics.cmc.items()) + f"  ({metrics.protocol})")
    print(
        f"{thresholds.genuine_pairs:,} pairs of one person in two cameras, {thresholds.impostor_pairs:,} of two people:"
    )
    for point in thresholds.points:
        if point.score is None:
            print(f"  FPR {point.fpr:g}: too few pairs to tell")
        else:
            print(f"  FPR {point.fpr:g}: TPR {point.tpr:.4f} at a score of {point.score:.4f} or more")
    if metrics.camera_pairs:
        print(f"{'query camera':>12}  {'gallery camera':>14}  {'queries':>7}  {'mAP':>6}  {'rank-1':>6}")
    for pair in metrics.camera_pairs:
        print(
            f"{pair.query_camera:>12}  {pair.gallery_camera:>14}  {pair.queries:>7}  {pair.mean_ap:>6.4f}  {pair.rank_1:>6.4f}"
        )
