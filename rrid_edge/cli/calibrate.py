"""``rrid-edge calibrate``: the int8 form of a float32 model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine


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
    facts = run_calibration(
        model,
        images,
        output=output,
        count=count,
        method=method,
        rounding=rounding,
        float_layers=float_layers,
        seed=seed,
        quiet=as_json,
    )
    if as_json:
        print_json(facts)


def run_calibration(
    model: Path,
    images: Path,
    *,
    output: Path | None = None,
    count: int = 300,
    method: str = "auto",
    rounding: str = "compensated",
    float_layers: int | None = None,
    seed: int = 0,
    reference: Engine | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Calibrate, tell the person at the terminal, and return what was written."""
    require("rrid_calib.calibrate", "calib", "calibrating a model")
    from rrid_calib.calibrate import calibrate as calibrate_model
    from rrid_calib.settings import CalibrationSettings

    settings = CalibrationSettings(count=count, seed=seed, method=method, rounding=rounding, float_layers=float_layers)
    result = calibrate_model(model, images, settings, output=output, reference=reference, say=say)
    chosen, agreement = result.calibration, result.parity.agreement
    share = result.model.stat().st_size / model.stat().st_size
    if not quiet:
        print(
            f"{printable(result.model)}: {chosen.layers - len(chosen.floating)} of {chosen.layers} layers in int8, form "
            f"{chosen.form!r}, ranges by {chosen.method}, {share:.0%} of the float32 file"
        )
        print(
            f"parity with {result.parity.reference} over {agreement.images} training crops kept aside: minimum cosine "
            f"{agreement.min_cosine:.5f}, top-1 agreement {agreement.top1_agreement:.1%} ({printable(result.report)})"
        )
        print(f"crops, ranges and costs: {printable(result.listing)}")
    return {
        "model": str(result.model),
        "calibration": str(result.listing),
        "report": str(result.report),
        "method": chosen.method,
        "form": chosen.form,
        "compared": [vars(item) for item in chosen.compared],
        "layers": chosen.layers,
        "floating": list(chosen.floating),
        "crops": len(chosen.crops),
        "size_share": share,
        "parity": result.parity.to_dict(),
    }
