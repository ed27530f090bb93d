"""Steps that build TensorRT engines, with their messages."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrid_edge.cli.common import ProgressBar, say, show
from rrid_edge.errors import MissingDependencyError, UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.model.rtx_target import RtxTarget
    from rrid_export.tensorrt.settings import BuildSettings


_SPELLINGS = {"workspace_mib": "workspace"}
"""Settings of a build whose option has another name."""


def settings_of(parameters: Mapping[str, Any]) -> BuildSettings:
    """The settings of a build from the parameters of a command: each setting has the parameter of its name."""
    from rrid_export.tensorrt.settings import BuildSettings

    names = {item.name: _SPELLINGS.get(item.name, item.name) for item in fields(BuildSettings)}
    values = {name: parameters[given] for name, given in names.items() if given in parameters}
    return BuildSettings(**values, rtx=_rtx_target(parameters))


def _rtx_target(parameters: Mapping[str, Any]) -> RtxTarget | None:
    """The GPUs for RTX that the user named, or TensorRT's default; None without ``--for rtx``.

    Raises:
        UsageError: GPUs were named without it, or other options exclude it.
    """
    from rrid_edge.model.rtx_target import RtxTarget

    named = tuple(parameters.get("compute_capability") or ())
    if parameters.get("target") is None:
        if named:
            raise UsageError("--compute-capability needs --for rtx: other engines serve the GPU that they are built on")
        return None
    if parameters.get("triton") is not None:
        raise UsageError("--triton and --for rtx exclude each other: Triton serves ONNX files and engines of TensorRT")
    return RtxTarget.of(named)


def build(onnx: Path, settings: BuildSettings, folder: Path | None = None, *, quiet: bool = False) -> Path:
    """Build the TensorRT engine of an ONNX file, in ``folder`` or beside it; returns the engine file.

    With ``quiet``, stdout is kept for JSON.
    """
    from rrid_edge.model.names import engine_path
    from rrid_edge.model.onnx_header import read_spec
    from rrid_export.tensorrt.build import build_engine

    rtx = settings.rtx is not None
    engine = engine_path(onnx if folder is None else folder / onnx.name, read_spec(onnx).precision, rtx=rtx)
    with ProgressBar("building the TensorRT engine", in_percent=True) as bar:
        sidecar = build_engine(onnx, engine, settings, progress=bar)
    tell = say if quiet else show
    kind = f"{sidecar.spec.precision} engine{' for RTX' if rtx else ''}"
    tell(f"{engine}: {kind} in {sidecar.build_s or 0:.0f} s; {sidecar.proof.in_words()}")
    if sidecar.rtx is not None:
        say(f"{printable(engine)}: for {sidecar.rtx.target.describe()}; {sidecar.rtx.note}")
    return engine


def build_here(
    models: list[Path],
    settings: BuildSettings,
    options: list[str],
    *,
    required: bool,
    quiet: bool,
    best_here: object = None,
) -> None:
    """Build engines on this machine. If it cannot, say what to run on the device.

    Args:
        models: the ONNX files.
        settings: how to build.
        options: the options that gave the settings.
        required: an engine is expected.
        quiet: keep stdout for JSON.
        best_here: the file to take on this machine without an engine; None, or one of ``models``, is not worth a word.

    Raises:
        MissingDependencyError: TensorRT or a GPU is missing, and ``required`` is True.
    """
    try:
        for onnx in models:
            build(onnx, settings, quiet=quiet)
    except MissingDependencyError as error:
        names, commands = " and ".join(map(str, models)), "; ".join(_command(onnx, options) for onnx in models)
        where = "then" if settings.rtx is not None else "on the device"
        line = f"{names}: written, but no TensorRT engine was built ({error.message}); {where} run: {commands}"
        if best_here is not None and str(best_here) not in map(str, models):
            line += f"; on this machine take {printable(str(best_here))}"
        if required:
            raise MissingDependencyError(line) from error
        say(line)  # not an error for int8 alone: OpenVINO runs the ONNX file on the CPU


def _command(onnx: Path, options: list[str]) -> str:
    return " ".join(["rrid-edge export", printable(onnx), *map(shlex.quote, options)])
