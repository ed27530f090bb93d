"""The step of ``rrid-edge export --deepstream``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrid_edge.cli.common import say
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.model.names import Kind
    from rrid_export.tensorrt.settings import BuildSettings


def check_deepstream(folder: Path | None, model: Path, form: str, kind: Kind, settings: BuildSettings) -> None:
    """Refuse a model or an engine that DeepStream cannot take, before the work.

    Args:
        folder: the option, or None.
        model: the file to export.
        form: form of input that a checkpoint is exported with.
        kind: kind of the file.
        settings: settings of the engine's build.

    Raises:
        UsageError: DeepStream cannot feed the model or load the engine, or the file is an engine.
    """
    from rrid_edge.model.names import Kind
    from rrid_edge.model.onnx_header import read_spec
    from rrid_edge.model.spec import FLOAT32_NCHW

    if folder is None:
        return
    from rrid_export.deepstream import check_engine_settings

    check_engine_settings(settings)
    if kind is Kind.ENGINE:
        raise UsageError(f"{printable(model)}: --deepstream needs the ONNX file of this engine: give that file")
    is_onnx = kind is Kind.ONNX
    if (read_spec(model).input if is_onnx else form) != FLOAT32_NCHW:
        mend = "export its checkpoint with --input nchw-float" if is_onnx else "add --input nchw-float"
        raise UsageError(f"{printable(model)}: DeepStream feeds float32 planes, and this model takes uint8: {mend}")


def write_configurations(
    facts: Mapping[str, Any], model: Path, folder: Path, settings: BuildSettings, output: Path | None
) -> list[str]:
    """Write the configurations of all ONNX files, and say where.

    Args:
        facts: what the export of a checkpoint wrote.
        model: the exported file; used if it is an ONNX file.
        folder: folder of the configurations.
        settings: settings of the engines' builds.
        output: folder of the engines; None: that of their ONNX file.

    Returns:
        The files that were written.
    """
    from rrid_edge.model.names import engine_path
    from rrid_edge.model.onnx_header import read_spec
    from rrid_export.deepstream import write_deepstream

    files = [Path(facts[name]) for name in ("model", "model_fp16") if name in facts]
    if "int8" in facts:
        files.append(Path(facts["int8"]["model"]))
    written: list[str] = []
    for file in files or [model]:
        engine = engine_path(file if output is None else output / file.name, read_spec(file).precision)
        written += map(str, write_deepstream(file, engine, folder, settings))
    say(f"written for DeepStream: {', '.join(map(printable, written))}")
    return written
