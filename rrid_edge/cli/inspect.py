"""``rrid-edge info`` and ``rrid-edge doctor``: what a model is, and what this machine has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json
from rrid_edge.errors import printable


@app.command(
    epilog="Example: rrid-edge info models/rrid.onnx",
    help="Print what a model is: input size, blocks, precision, fingerprint. Needs no runtime.",
)
def info(
    model: Annotated[
        Path | None, typer.Argument(help="The model file; the one that commands would choose if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.model.choice import choose_model
    from rrid_edge.model.onnx_header import read_model_header, read_spec

    path, why = choose_model(model)
    spec, header = read_spec(path), read_model_header(path)
    if as_json:
        print_json({"model": str(path), **asdict(spec), "blocks": list(spec.blocks), "dimension": spec.dimension})
        return
    if model is None:
        print(f"model         {printable(path)} ({why})")
    else:
        print(f"model         {printable(path)}")
    rows = (
        ("input", f"images, uint8 (batch, {spec.height_px}, {spec.width_px}, 3), RGB"),
        ("output", f"descriptors, float32 (batch, {spec.dimension}), unit length"),
        ("blocks", f"{len(spec.blocks)} x {spec.block_width}, stripes {', '.join(map(str, spec.stripes))}"),
        ("mirrored", "mean with the mirrored image" if spec.flip else "no"),
        ("precision", spec.precision),
        ("backbone", spec.backbone),
        ("trained on", spec.training_data),
        ("fingerprint", spec.fingerprint),
        ("source", f"sha256 {spec.source_sha256}"),
        ("written by", f"rrid-edge {spec.version}, operator set {header.opset}"),
    )
    for name, value in rows:
        print(f"{name:<13} {value}")


@app.command(
    epilog="Example: rrid-edge doctor",
    help="Print what this machine has and the command that mends each gap. Installs nothing.",
)
def doctor(as_json: JsonOption = False) -> None:
    from rrid_edge.machine.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<12} {finding.detail}")
            if finding.remedy:
                print(f"{'':<21} -> {finding.remedy}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(3)
