"""The facts of a model file of either kind."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.names import is_engine
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import ModelSpec


def read_any_spec(path: Path) -> ModelSpec:
    """The model contract of an ONNX file (from its header) or of a TensorRT engine (from its sidecar).

    Goldens carry the fingerprint alone, and a checkpoint no precision: both are refused.

    Raises:
        UsageError: no such file.
        ModelFileError: a file of another kind, damaged, or an engine without its sidecar.
    """
    if not is_engine(path):
        return read_spec(path)
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: no such engine file; build it with: rrid-edge export MODEL.onnx", parameter="model"
        )
    return EngineSidecar.read(path).spec
