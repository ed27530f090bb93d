"""Which of the files that ``export --fp16`` wrote is the best one on this machine."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.cli.common import say
from rrid_edge.errors import printable


def best_here(exact: Path, half: Path) -> tuple[Path, str]:
    """The better one of a float32 and a float16 ONNX file on this machine, and why, in words.

    A GPU computes float16 faster. A CPU computes both files in the same arithmetic: in bf16 where OpenVINO has it, else
    in float32. There float16 only rounds the weights (BENCHMARKS.md).

    Args:
        exact: the float32 file.
        half: the float16 file.
    """
    from rrid_edge.engines import choose_runtime
    from rrid_edge.machine.gpu import this_gpu
    from rrid_edge.machine.processor import computes_bf16

    if this_gpu().present or choose_runtime(half).runtime == "onnxruntime-cuda":
        return half, "this machine has an NVIDIA GPU, which computes float16 faster"
    if choose_runtime(exact).runtime == "openvino" and computes_bf16():
        return exact, "this CPU computes both in bf16, so float16 weights gain no speed and are less exact"
    return exact, "this CPU computes both in float32, so float16 weights gain no speed and are less exact"


def say_best(exact: Path, half: Path) -> Path:
    """Say which file to take here if it is not the float16 one; returns the file to take."""
    best, why = best_here(exact, half)
    if best == exact:
        say(f"{printable(half)} is for GPUs; on this machine take {printable(exact)}: {why}")
    return best
