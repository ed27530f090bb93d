"""Options of a TensorRT engine's build.

The help of an option that only shapes an engine begins with ``Engine:``. Such an option is refused where no engine is
built.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Target(str, Enum):
    """What an engine is built for, other than the GPU of this machine."""

    RTX = "rtx"


def _keep_tensorrt_log(context: typer.Context, log: Path | None) -> Path | None:
    """Let this command and its child processes keep TensorRT's log.

    Raises:
        OutputError: the file cannot be written.
    """
    if log is not None and not context.resilient_parsing:
        from rrid_edge.engines.tensorrt.log import LOG_VARIABLE, check_log

        check_log(log)
        earlier = os.environ.get(LOG_VARIABLE, "")  # empty: no log
        os.environ[LOG_VARIABLE] = str(log.absolute())
        context.call_on_close(lambda: os.environ.update({LOG_VARIABLE: earlier}))
    return log


TensorRTLogOption = Annotated[
    Path | None,
    typer.Option(
        "--tensorrt-log",
        callback=_keep_tensorrt_log,
        help="Append all that TensorRT says to this file. [default: RRID_EDGE_TENSORRT_LOG, or none]",
    ),
]
MinBatchOption = Annotated[int, typer.Option(min=1, help="Engine: smallest batch size.")]
OptBatchOption = Annotated[int, typer.Option(min=1, help="Engine: batch size to tune for.")]
MaxBatchOption = Annotated[int, typer.Option(min=1, help="Engine: largest batch size.")]
WorkspaceOption = Annotated[int, typer.Option(min=1, help="Engine: scratch memory of the builder, in MiB.")]
VersionCompatibleOption = Annotated[
    bool,
    typer.Option("--version-compatible", help="Engine: also run on newer TensorRT versions. Needs libnvinfer_lean.so."),
]
ExcludeLeanRuntimeOption = Annotated[
    bool,
    typer.Option(
        "--exclude-lean-runtime", help="Engine: with --version-compatible, leave libnvinfer_lean.so out of the plan."
    ),
]
HardwareCompatibleOption = Annotated[
    bool, typer.Option("--hardware-compatible", help="Engine: also run on other GPUs (not on Jetson).")
]
StripWeightsOption = Annotated[bool, typer.Option("--strip-weights", help="Engine: leave out its weights.")]
StrongTypingOption = Annotated[
    bool,
    typer.Option(
        "--strong-typing/--weak-typing",
        help="Engine: take types from the ONNX file. --weak-typing lets TensorRT 10 choose by builder flags.",
    ),
]
OptimizationLevelOption = Annotated[
    int | None, typer.Option(min=0, max=5, help="Engine: effort of the builder; default: TensorRT's own.")
]
Tf32Option = Annotated[bool, typer.Option("--tf32", help="Engine: allow TF32 rounding of float32 products.")]
TimingCacheOption = Annotated[
    Path | None, typer.Option("--timing-cache", help="Engine: folder of kernel times; default: the engine's own.")
]
TargetOption = Annotated[
    Target | None,
    typer.Option("--for", help="Engine: build it for RTX PCs, on any machine. [default: for the GPU of this machine]"),
]
ComputeCapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="<major.minor>",
        help="Engine: with --for rtx, only these GPUs, for example 7.5 (Turing). [default: 8.0, 8.6, 8.9, 12.0, later]",
    ),
]
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
