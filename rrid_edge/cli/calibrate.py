"""``rrid-edge calibrate``: the int8 form of a float32 model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say


@app.command(
    epilog="Example: rrid-edge calibrate models/rrid.onnx --images data/market1501",
    help="Write the int8 form of a float32 ONNX model (explicit Q/DQ, for OpenVINO, TensorRT and ONNX Runtime alike): take "
    "ranges from training crops, compare three ways to choose them, leave in float32 the layers that cost most where that "
    "is needed, and prove the result on training crops that were kept aside.",
)
def calibrate(
    model: Annotated[Path, typer.Argument(help="Float32 ONNX file, as rrid-edge export writes it.")],
    images: Annotated[
        Path,
        typer.Option(
            help="A dataset (its training split is taken), or a folder of training crops; test crops are refused."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; NAME.int8.onnx beside the model if left out.")
    ] = None,
    count: Annotated[int, typer.Option(help="Crops to take ranges from, spread over cameras and people.")] = 300,
    method: Annotated[str, typer.Option(help="minmax, percentile, entropy, or auto: the best of them.")] = "auto",
    rounding: Annotated[
        str, typer.Option(help="Of weights: compensated (errors cancel on the crops), or nearest, which is quicker.")
    ] = "compensated",
    float_layers: Annotated[
        int | None, typer.Option(help="Layers to leave in float32, the costliest first; as few as needed if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of crops.")] = 0,
    as_json: JsonOption = False,
) -> None:
    require("rrid_calib.calibrate", "calib", "calibrating a model")
    from rrid_calib.calibrate import calibrate as calibrate_model
    from rrid_calib.settings import CalibrationSettings

    settings = CalibrationSettings(count=count, seed=seed, method=method, rounding=rounding, float_layers=float_layers)
    result = calibrate_model(model, images, settings, output=output, say=say)
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.describe())
