"""``rrid-edge evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.aligning import right, widest
from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say, show, told_choice
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import PrecisionOption, RuntimeOption, ThreadsOption, WeightsOption
from rrid_edge.cli.steps import refuse_weights, say_weights
from rrid_edge.cli.thresholds import Keeping, keep_thresholds, print_thresholds
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.ranking.labels import LabelNames
    from rrid_edge.ranking.metrics import CameraPair
    from rrid_export.evaluation import Evaluation
    from rrid_train.data.layout import Dataset

_CAMERAS = ("query camera", "gallery camera")


@app.command(
    epilog="Example: rrid-edge evaluate runs/demo/best.safetensors --dataset demo --sheets runs/demo/sheets",
    help="Measure a checkpoint or a model on a dataset's test split. It prints mAP, mINP, CMC and thresholds for "
    "match --fpir and --fpr. The thresholds are saved beside the model.",
)
def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (runs in PyTorch) or model file.")],
    dataset: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset_type: Annotated[
        str,
        typer.Option(
            help="Layout: auto, rrid, market1501, msmt17, viper, prid2011, cuhk01 or folders.",
            autocompletion=one_of("auto rrid market1501 msmt17 viper prid2011 cuhk01 folders"),
        ),
    ] = "auto",
    split: Annotated[int, typer.Option(help="Index of the split in splits.json and test.json.")] = 0,
    splits_file: Annotated[
        str | None, typer.Option(help="File of splits in the dataset; default: splits.json.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="CMC protocol: market1501, allshots or cuhk03.", autocompletion=one_of("market1501 allshots cuhk03")
        ),
    ] = "market1501",
    ap: Annotated[
        str,
        typer.Option(
            help="Average precision: step or trapezoid (as in MATLAB; lower).", autocompletion=one_of("step trapezoid")
        ),
    ] = "step",
    same_camera: Annotated[
        bool,
        typer.Option("--same-camera", help="Leave out only a query's own sequence or file, not all of its camera."),
    ] = False,
    per_camera: Annotated[bool, typer.Option("--per-camera", help="Also measure every pair of cameras.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="Apply k-reciprocal re-ranking.")] = False,
    k1: Annotated[int, typer.Option(help="Re-ranking: size of the mutual neighbourhood.")] = 20,
    k2: Annotated[int, typer.Option(help="Re-ranking: neighbours to average encodings over.")] = 6,
    lambda_value: Annotated[float, typer.Option("--lambda", help="Re-ranking: weight of the original distance.")] = 0.3,
    expand: Annotated[int, typer.Option(help="Query expansion: nearest crops to average; 0 is off.")] = 0,
    sheets: Annotated[
        Path | None, typer.Option(help="Draw the worst, median and best queries into this folder.")
    ] = None,
    sheet_queries: Annotated[int, typer.Option(help="Queries per sheet.")] = 6,
    fpr: Annotated[
        list[float] | None,
        typer.Option(help="False-positive rate per pair of a threshold; repeatable; default: 1e-6 to 1e-2."),
    ] = None,
    thresholds: Annotated[
        bool, typer.Option("--thresholds/--no-thresholds", help="Save the thresholds beside the model.")
    ] = True,
    thresholds_as: Annotated[
        str | None, typer.Option(help="Name to keep the thresholds under. [default: the dataset's name]")
    ] = None,
    use_thresholds: Annotated[
        bool, typer.Option("--use-thresholds", help="Let match use these thresholds, not those of an earlier dataset.")
    ] = False,
    weights: WeightsOption = None,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonOption = False,
) -> None:
    require("rrid_export.evaluation", "train", "reading a dataset")
    from rrid_edge.model.names import thresholds_path
    from rrid_edge.ranking.metrics import RankingSettings
    from rrid_edge.ranking.rerank import RerankSettings
    from rrid_edge.ranking.thresholds import FALSE_POSITIVE_RATES
    from rrid_export import evaluation
    from rrid_train.data.layout import load_dataset

    settings = evaluation.EvaluationSettings(
        RankingSettings(protocol=protocol, ap=ap, per_camera=per_camera, same_camera=same_camera),
        RerankSettings(k1, k2, lambda_value) if rerank else None,
        expand,
        tuple(fpr or FALSE_POSITIVE_RATES),
    )
    drawn = evaluation.SheetSettings(sheets, sheet_queries)
    data = load_dataset(
        dataset,
        dataset_type=dataset_type,
        split=split,
        splits_file=splits_file,
        num_val=0,
    )
    _say_data(data, same_camera)
    data = data.scored()
    keeping = Keeping(thresholds_path(model), thresholds_as or data.name, use_thresholds)
    with _open(model, weights, runtime, precision, threads) as engine, ProgressBar("embedding") as bar:
        say(f"{printable(model)}: {engine.runtime}; {len(data.query)} queries, {len(data.gallery)} gallery images")
        if thresholds:
            keeping.check(engine.spec.fingerprint, data, same_camera=same_camera)
        result = evaluation.evaluate(engine, data, settings, progress=bar)
    if as_json:
        print_json({"model": str(model), **result.to_dict()})
    else:
        _print(", ".join(filter(None, (data.name, settings.describe()))), result)
    if thresholds and result.thresholds is not None:
        keep_thresholds(keeping, result.spec.fingerprint, result.thresholds)
    for written in evaluation.draw_sheets(result, drawn):
        say(f"written: {printable(written)}")


def _say_data(data: Dataset, same_camera: bool) -> None:
    """Say what the dataset left out, what can be measured, and which crops are scored.

    Raises:
        UsageError: nothing can be measured.
    """
    can = data.measurable(same_camera=same_camera)
    for remark in data.remarks:
        say(remark)
    can.require_ranking(printable(data.root))
    for line in (can.describe(), *data.explained()):
        say(line)


def _open(model: Path, weights: str | None, runtime: str, precision: str | None, threads: int) -> Engine:
    from rrid_edge.model.names import is_model

    if is_model(model):
        refuse_weights(weights, model)
        from rrid_edge.engines import choose_runtime, open_engine

        choice = choose_runtime(model, runtime, precision=precision, threads=threads)
        say(told_choice(choice))
        return open_engine(model, choice.runtime, precision=precision, threads=threads)
    require("rrid_export.torch_engine", "export", "running a checkpoint")
    from rrid_export.source import load_source
    from rrid_export.torch_engine import TorchEngine

    engine = TorchEngine(load_source(model, weights=weights))
    say_weights(engine.notes)
    return engine


def _print(name: str, result: Evaluation) -> None:
    metrics = result.metrics
    precision = f"mAP {metrics.mean_ap:.4f} ({metrics.ap}), mINP {metrics.mean_inp:.4f}"
    show(f"{name}: {precision}, {metrics.valid_queries} valid queries")
    show("  ".join(f"rank-{rank} {value:.4f}" for rank, value in metrics.cmc.items()) + f"  ({metrics.protocol})")
    if metrics.same_camera:
        show("with right answers of the query's own camera: only its own sequence or file was left out")
    if result.thresholds is not None:
        print_thresholds(result.thresholds)
    if metrics.camera_pairs:
        _print_cameras(metrics.camera_pairs, result.split.names)


def _print_cameras(pairs: Sequence[CameraPair], names: LabelNames) -> None:
    """Print a line per pair of cameras, which are called as galleries call them."""
    sides = [[printable(names.camera(number)) for number in column] for column in
             zip(*((pair.query_camera, pair.gallery_camera) for pair in pairs), strict=True)]  # fmt: skip
    first, second = (widest([head, *side]) for head, side in zip(_CAMERAS, sides, strict=True))
    show(f"{right(_CAMERAS[0], first)}  {right(_CAMERAS[1], second)}  {'queries':>7}  {'mAP':>6}  {'rank-1':>6}")
    for pair, asked, found in zip(pairs, *sides, strict=True):
        figures = f"{pair.queries:>7}  {pair.mean_ap:>6.4f}  {pair.rank_1:>6.4f}"
        show(f"{right(asked, first)}  {right(found, second)}  {figures}")
