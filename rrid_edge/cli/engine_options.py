"""Options of a TensorRT engine's build."""

from __future__ import annotations

from typing import Annotated

import typer

MinBatchOption = Annotated[int, typer.Option(min=1, help="Engine: smallest batch size.")]
OptBatchOption = Annotated[int, typer.Option(min=1, help="Engine: batch size to tune for.")]
MaxBatchOption = Annotated[int, typer.Option(min=1, help="Engine: largest batch size.")]
WorkspaceOption = Annotated[int, typer.Option(min=1, help="Engine: scratch memory of the builder, in MiB.")]
VersionCompatibleOption = Annotated[
    bool, typer.Option("--version-compatible", help="Engine: also run on newer TensorRT versions.")
]
HardwareCompatibleOption = Annotated[
    bool, typer.Option("--hardware-compatible", help="Engine: also run on other GPUs (not on Jetson).")
]
StripWeightsOption = Annotated[bool, typer.Option("--strip-weights", help="Engine: leave out its weights.")]
PrintTrtexecOption = Annotated[
    bool, typer.Option("--print-trtexec", help="Print the trtexec command that builds MODEL.onnx; build nothing.")
]
TrtexecVersionOption = Annotated[
    str | None,
    typer.Option(
        "--trtexec-version",
        help="For --print-trtexec: version of TensorRT: 8.6, 10 or 11. [default: the installed one, else 10]",
    ),
]
