"""Steps that build TensorRT engines, with their messages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import ProgressBar, say, show
from rrid_edge.errors import MissingDependencyError

if TYPE_CHECKING:
    from rrid_export.tensorrt.settings import BuildSettings


def build(onnx: Path, settings: BuildSettings) -> Path:
    """Build the TensorRT engine of an ONNX file, beside it; returns the engine file."""
    from rrid_edge.model.names import engine_path
    from rrid_edge.model.onnx_header import read_spec
    from rrid_export.tensorrt.build import build_engine

    engine = engine_path(onnx, read_spec(onnx).precision)
    with ProgressBar("building the engine") as bar:
        sidecar = build_engine(onnx, engine, settings, progress=bar)
    show(f"{engine}: {sidecar.spec.precision} engine in {sidecar.build_s or 0:.0f} s; {sidecar.proof.in_words()}")
    return engine


def build_here(models: list[Path], settings: BuildSettings, *, required: bool) -> None:
    """Build engines on this machine. If it cannot, say what to run on the device.

    Raises:
        MissingDependencyError: TensorRT or a GPU is missing, and ``required`` is True.
    """
    try:
        for onnx in models:
            build(onnx, settings)
    except MissingDependencyError as error:
        names, commands = " and ".join(map(str, models)), "; ".join(f"rrid-edge export {onnx}" for onnx in models)
        line = f"{names}: written, but no TensorRT engine was built ({error.message}); on the device run: {commands}"
        if required:
            raise MissingDependencyError(line) from error
        say(line)  # not an error for int8 alone: OpenVINO runs the ONNX file on the CPU
