"""Read the spec of a model file: ONNX, TensorRT or an OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.model.engine_sidecar import EngineSidecar
from rrid_edge.model.ir_sidecar import IrSidecar
from rrid_edge.model.names import Kind, is_engine, kind_of
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import ModelSpec


def read_any_spec(path: Path) -> ModelSpec:
    """Read the spec of an ONNX file (from its header), or of a TensorRT engine or OpenVINO IR (from its sidecar).

    Raises:
        UsageError: the file does not exist.
        ModelFileError: the file is of another kind or damaged, or an engine or IR has no sidecar.
    """
    if kind_of(path) is Kind.IR:
        return IrSidecar.read(path).spec
    if not is_engine(path):
        return read_spec(path)
    if not path.is_file():
        raise UsageError(
            f"{printable(path)}: {why_no_file(path, 'engine file')}; build it with: rrid-edge export MODEL.onnx",
            parameter="model",
        )
    return EngineSidecar.read(path).spec
