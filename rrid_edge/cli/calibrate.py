"""``rrid-edge calibrate``: the int8 form of a float32 model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import FollowLinksOption
from rrid_edge.cli.steps import say_files_left_out


@app.command(
    epilog="Example: rrid-edge calibrate models/rrid.onnx --images data/market1501",
    help="Write the int8 forms of a float32 ONNX model. NAME.cpu.int8.onnx is for CPUs, NAME.int8.onnx for TensorRT "
    "and every other runtime. Both have explicit Q/DQ nodes. Ranges come from training crops; three ways to choose "
    "them are compared. If accuracy needs it, the layers that lose most stay in float32. All crops of some people are "
    "kept aside to verify the results.",
)
def calibrate(
    model: Annotated[Path, typer.Argument(help="Float32 ONNX file that rrid-edge export or adopt wrote.")],
    images: Annotated[
        Path,
        typer.Option(help="Dataset (uses its training split) or folder of training crops. Test crops are refused."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for TensorRT and every other runtime, the one for CPUs beside it; default: NAME.int8.onnx.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Crops to take ranges from, spread over cameras and people.")] = 300,
    method: Annotated[
        str,
        typer.Option(
            help="Choice of ranges: minmax, percentile, entropy or auto (best).",
            autocompletion=one_of("auto minmax percentile entropy"),
        ),
    ] = "auto",
    rounding: Annotated[
        str, typer.Option(help="Rounding of weights: compensated (errors cancel) or nearest (faster).")
    ] = "compensated",
    float_layers: Annotated[
        int | None, typer.Option(help="Layers to keep in float32, most error first; default: as few as needed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the choice of crops.")] = 0,
    follow_links: FollowLinksOption = False,
    as_json: JsonOption = False,
) -> None:
    require("rrid_calib.calibrate", "calib", "calibrating a model")
    require("onnxruntime", "calib", "calibrating a model")
    from rrid_calib.calibrate import calibrate as calibrate_model
    from rrid_calib.settings import CalibrationSettings
    from rrid_train.data.layout import is_dataset

    settings = CalibrationSettings(
        count=count, seed=seed, method=method, rounding=rounding, float_layers=float_layers, follow_links=follow_links
    )
    if images.is_dir() and not is_dataset(images):
        say_files_left_out(images, follow_links=follow_links)
    result = calibrate_model(model, images, settings, output=output, say=say)
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.describe())
