"""``rrid-edge evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, progress, require, say
from rrid_edge.cli.opening import PrecisionOption, RuntimeOption, ThreadsOption
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rrid_edge.engines.base import Engine


@app.command(
    epilog="Example: rrid-edge evaluate runs/demo/best.safetensors --dataset demo",
    help="Measure a checkpoint or a model file on a dataset's test split: mAP, mINP, CMC.",
)
def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint (PyTorch runs it) or model file.")],
    dataset: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    dataset_type: Annotated[str, typer.Option(help="auto, rrid, market1501 or dukemtmc.")] = "auto",
    split: Annotated[int, typer.Option(help="Which split.")] = 0,
    protocol: Annotated[str, typer.Option(help="CMC protocol: market1501, allshots or cuhk03.")] = "market1501",
    ap: Annotated[
        str, typer.Option(help="Average precision: step, or trapezoid (the official MATLAB one, lower).")
    ] = "step",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="k-reciprocal re-ranking (k1 20, k2 6, lambda 0.3).")
    ] = False,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonOption = False,
) -> None:
    require("rrid_train.data.layout", "train", "reading a dataset")
    from rrid_edge.metrics import evaluate_ranking
    from rrid_train.data.layout import load_dataset

    data = load_dataset(dataset, dataset_type=dataset_type, split=split, combine_trainval=True)
    if not data.query or not data.gallery:
        raise UsageError(f"{printable(dataset)}: no test queries or no gallery in it")
    with _open(model, runtime, precision, threads) as engine:
        say(f"{printable(model)}: {engine.runtime}; {len(data.query)} queries, {len(data.gallery)} gallery images")
        queries = _embed(engine, [sample.path for sample in data.query], "queries")
        crops = _embed(engine, [sample.path for sample in data.gallery], "gallery")
        facts = {"model": str(model), "runtime": engine.runtime, "dataset": data.name, "rerank": rerank}
    metrics = evaluate_ranking(
        _distances(queries, crops, rerank),
        [sample.pid for sample in data.query],
        [sample.pid for sample in data.gallery],
        [sample.camera for sample in data.query],
        [sample.camera for sample in data.gallery],
        protocol=protocol,
        ap=ap,
    )
    if as_json:
        values: dict[str, Any] = {key: value for key, value in asdict(metrics).items() if not hasattr(value, "shape")}
        print_json({**facts, **values})
        return
    print(
        f"{data.name}: mAP {metrics.mean_ap:.4f} ({ap}), mINP {metrics.mean_inp:.4f}, {metrics.valid_queries} valid queries"
    )
    print("  ".join(f"rank-{rank} {value:.4f}" for rank, value in metrics.cmc.items()) + f"  ({protocol})")


def _open(model: Path, runtime: str, precision: str | None, threads: int) -> Engine:
    if model.suffix in (".onnx", ".engine", ".plan"):
        from rrid_edge.engines import open_engine

        return open_engine(model, runtime, precision=precision, threads=threads, explain=say)
    require("rrid_export.torch_engine", "export", "running a checkpoint")
    from rrid_export.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(model)


def _embed(engine: Engine, paths: list[Path], what: str) -> NDArray[np.float32]:
    import numpy as np

    from rrid_edge.embed import embed_files
    from rrid_edge.errors import DatasetError

    rows = []
    with progress(what, len(paths)) as advance:
        for batch in embed_files(engine, paths):
            if batch.failed:
                path, reason = batch.failed[0]
                raise DatasetError(
                    f"{printable(path)}: {reason}; an evaluation with missing images would be another one"
                )
            rows.append(batch.descriptors)
            advance(batch.done)
    return np.concatenate(rows)


def _distances(queries: NDArray[np.float32], crops: NDArray[np.float32], rerank: bool) -> NDArray[np.float32]:
    if rerank:
        from rrid_edge.rerank import k_reciprocal

        return k_reciprocal(queries, crops)
    distances: NDArray[np.float32] = 2 - 2 * (queries @ crops.T)
    return distances
