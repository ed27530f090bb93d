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
        form: form of input that a checkpoint is exported with, or an adopted file converted to.
        kind: kind of the file.
        settings: settings of the engine's build.

    Raises:
        UsageError: DeepStream cannot feed the model or load the engine, or the file is an engine.
    """
    from rrid_edge.model.names import Kind
    from rrid_edge.model.onnx_header import read_spec
    from rrid_edge.model.spec import ADOPTED, FLOAT32_NCHW

    if folder is None:
        return
    from rrid_export.deepstream import check_engine_settings

    check_engine_settings(settings)
    if kind is Kind.ENGINE:
        raise UsageError(f"{printable(model)}: --deepstream needs the ONNX file of this engine: give that file")
    mend = "add --input nchw-float"
    if kind is Kind.ONNX:
        spec = read_spec(model)
        form = FLOAT32_NCHW if spec.input == FLOAT32_NCHW else form
        if spec.family != ADOPTED:
            form, mend = spec.input, "export its checkpoint with --input nchw-float"
    if form != FLOAT32_NCHW:
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

    names = ("model_planes",) if "model_planes" in facts else ("model", "model_fp16")
    files = [Path(facts[name]) for name in names if name in facts]
    if "int8" in facts:
        files.append(Path(facts["int8"]["model"]))
    written: list[str] = []
    for file in files or [model]:
        engine = engine_path(file if output is None else output / file.name, read_spec(file).precision)
        written += map(str, write_deepstream(file, engine, folder, settings))
    say(f"written for DeepStream: {', '.join(map(printable, written))}")
    return written
