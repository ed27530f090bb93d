"""``rrid-edge export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say


@app.command(
    epilog="Example: rrid-edge export runs/demo/best.safetensors --crops demo/gallery",
    help="Export a trained network to an ONNX file that holds the whole way from uint8 pixels to descriptors.",
)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of rrid-edge train, or the published network's weights.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("models"),
    flip: Annotated[
        bool, typer.Option("--flip/--no-flip", help="Average with the mirrored image (another model without).")
    ] = True,
    height: Annotated[
        int | None, typer.Option(help="Input rows, where the file does not tell (384 for published weights).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Input columns, likewise (128).")] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Folder of real crops for the golden descriptors; drawn noise without it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    require("rrid_export.onnx", "export", "exporting a model")
    from rrid_export.onnx import describe
    from rrid_export.pipeline import export_model
    from rrid_export.source import load_source

    source = load_source(checkpoint, height_px=height, width_px=width)
    say(f"{source.describe()}; writing {output / 'rrid.onnx'}")
    result = export_model(source, output, flip=flip, crops=crops)
    if as_json:
        print_json({"model": str(result.model), "goldens": str(result.goldens), "parity": result.parity.to_dict()})
        return
    print(describe(result.model))
    print(
        f"parity with PyTorch over {result.parity.agreement.images} images: minimum cosine "
        f"{result.parity.agreement.min_cosine:.7f} ({result.report})"
    )
    print(
        f"fingerprint {result.parity.fingerprint[:12]}; next: rrid-edge match query.jpg gallery/ --model {result.model}"
    )
