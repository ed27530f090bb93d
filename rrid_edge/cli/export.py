"""``rrid-edge export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, require, say

_GOLDEN_CROPS = 64


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
    from rrid_export.goldens import make_goldens
    from rrid_export.source import load_source

    from rrid_export.branch import InferenceBranch
    from rrid_export.onnx import describe, export_onnx

    source = load_source(checkpoint, height_px=height, width_px=width)
    spec = source.spec(flip=flip)
    path = output / "rrid.onnx"
    say(f"{source.describe()}; writing {path}")
    export_onnx(InferenceBranch(source.model, flip=flip).eval(), spec, path)
    goldens_path, report = make_goldens(source, path, flip=flip, crops=crops, count=_GOLDEN_CROPS)
    if as_json:
        print_json(
            {"model": str(path), "goldens": str(goldens_path), "spec": spec.to_metadata(), "parity": report.to_dict()}
        )
        return
    print(describe(path))
    print(
        f"parity with PyTorch: minimum cosine {report.agreement.min_cosine:.7f} over {report.agreement.images} images "
        f"({goldens_path})"
    )
    print(f"fingerprint {spec.fingerprint[:12]}; next: rrid-edge match query.jpg gallery/")
