"""The step of ``rrid-edge export --print-trtexec``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import print_json, say, show
from rrid_edge.errors import MissingDependencyError, UsageError, printable

if TYPE_CHECKING:
    from rrid_export.tensorrt.settings import BuildSettings

_DEFAULT_VERSION = "10"


def print_trtexec(
    model: Path, settings: BuildSettings, version: str | None, folder: Path | None, *, as_json: bool
) -> None:
    """Print the trtexec command that builds the engine of an ONNX file. Nothing is built or written.

    Args:
        model: the ONNX file.
        settings: settings of the build.
        version: version of TensorRT; None takes the installed one, or 10 if there is none.
        folder: folder of the engine; None: that of the ONNX file.
        as_json: print the arguments and remarks as JSON.

    Raises:
        UsageError: the model is no ONNX file, or the version lacks a setting.
    """
    from rrid_edge.model.names import Kind, engine_path, kind_of
    from rrid_edge.model.onnx_header import read_spec
    from rrid_export.trtexec import trtexec_command

    if kind_of(model) is not Kind.ONNX:
        raise UsageError(
            f"{printable(model)}: trtexec builds from an ONNX file; export this one first, then give the file it wrote"
        )
    if version is None:
        version = _installed_version()
    engine = engine_path(model if folder is None else folder / model.name, read_spec(model).precision)
    command = trtexec_command(model, engine, settings, version=version)
    if as_json:
        print_json({"tensorrt": version, "command": command.arguments, "remarks": command.remarks})
    else:
        for line in command.lines():
            show(line)
    for line in command.remarks:
        say(line)
    for absent in dict.fromkeys((engine.parent, settings.timing_cache_folder or engine.parent)):
        if not absent.is_dir():
            say(f"trtexec makes no folders; first run: mkdir -p {shlex.quote(str(absent))}")
    say(f"then give the plan its sidecar: rrid-edge engine adopt {printable(engine)} --onnx {printable(model)}")


def _installed_version() -> str:
    from rrid_edge.engines.tensorrt.api import load_tensorrt

    try:
        return str(load_tensorrt().__version__)
    except MissingDependencyError:
        say(
            f"no TensorRT is installed here: this is the command for TensorRT {_DEFAULT_VERSION}; for another one: "
            "option --trtexec-version"
        )
        return _DEFAULT_VERSION
