"""The step of ``rrid-edge export --triton``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import say
from rrid_edge.cli.engine_steps import build
from rrid_edge.errors import MissingDependencyError, UsageError, printable

if TYPE_CHECKING:
    from rrid_export.tensorrt.settings import BuildSettings


def check_triton(folder: Path | None, *, ensemble: bool) -> None:
    """Refuse an ensemble without a repository.

    Raises:
        UsageError: ``ensemble`` is True, and ``folder`` is None.
    """
    if ensemble and folder is None:
        raise UsageError("--triton-ensemble has no repository to be written into: add --triton DIR")


def build_to_serve(
    onnx: Path, settings: BuildSettings, output: Path | None, *, required: bool, quiet: bool, server: str = "Triton"
) -> Path:
    """Build the engine of an ONNX file. Where this machine cannot, the server takes the ONNX file itself.

    Args:
        onnx: the ONNX file.
        settings: settings of the build.
        output: folder of the engine; None: that of the ONNX file.
        required: an engine is expected.
        quiet: keep stdout for JSON.
        server: name of the server, for the message.

    Returns:
        The engine, or the ONNX file.

    Raises:
        MissingDependencyError: TensorRT or a GPU is missing, and ``required`` is True.
    """
    try:
        return build(onnx, settings, output, quiet=quiet)
    except MissingDependencyError as error:
        if required and isinstance(error.__cause__, ImportError):  # a machine without a GPU needs no package for one
            raise MissingDependencyError(
                f"{printable(onnx)}: no TensorRT engine was built: {error.message}; without a GPU use the file as it "
                f"is: rrid-edge index FOLDER --model {printable(onnx)}"
            ) from error
        if required:
            raise
        say(f"no TensorRT engine was built ({error.message}): {server} serves the ONNX file")
        return onnx


def write_repository(model: Path, folder: Path, *, ensemble: bool) -> Path:
    """Write the Triton repository of a model, and say where; returns the folder of the model that clients call."""
    from rrid_export.triton import TritonSettings, write_triton_repository

    written = write_triton_repository(model, folder, TritonSettings(ensemble=ensemble))
    say(f"written: {printable(written)}, which serves {printable(model.name)}")
    return written
