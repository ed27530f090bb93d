"""What ``rrid-edge export`` checks before it starts: kind of the file, and options that have no effect on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rrid_edge.cli.given import refuse_engine_options, refuse_network_options
from rrid_edge.cli.steps import refuse_weights
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.model.names import Kind


def checked_kind(checkpoint: Path, int8: bool, calib: Path | None, *, to_serve: bool) -> Kind:
    """The kind of the file to export. An engine is taken only ``to_serve`` it with Triton.

    Raises:
        UsageError: the file is an engine, or the options for int8 do not fit together or do not fit the file.
    """
    from rrid_edge.model.names import Kind, kind_of

    if int8 != (calib is not None):
        raise UsageError(
            "--int8 and --calib DIR go together: give both, with DIR a dataset or folder of training crops, or neither"
        )
    kind = kind_of(checkpoint)
    if kind in (Kind.IR, Kind.RTX_ENGINE) or (kind is Kind.ENGINE and not to_serve):
        what = kind.value if kind is Kind.IR else "an engine"
        raise UsageError(f"{printable(checkpoint)}: this is {what} already; give a checkpoint or an ONNX file")
    if kind in (Kind.ONNX, Kind.ENGINE) and int8:
        raise UsageError(
            f"{printable(checkpoint)}: --int8 needs a checkpoint; for an ONNX file run: rrid-edge calibrate MODEL "
            "--images DIR"
        )
    return kind


def refuse_options(
    context: typer.Context, given: Mapping[str, Any], kind: Kind, *, builds: bool, converts: bool, to_planes: bool
) -> None:
    """Refuse options that have no effect on a file of this kind, and folders that cannot be written.

    Args:
        context: the command's context.
        given: the command's parameters.
        kind: kind of the file to export.
        builds: engines of a checkpoint are built.
        converts: an adopted file is converted to float16.
        to_planes: an adopted file gets an input of float32 planes.

    Raises:
        UsageError: names the options.
        OutputError: names the folder.
    """
    from rrid_edge.files import check_writable
    from rrid_edge.model.names import Kind

    for folder in (given[name] for name in ("output", "triton", "deepstream")):
        if folder is not None:
            check_writable(folder)
    if kind in (Kind.ONNX, Kind.ENGINE):
        taken = [name for name, wanted in (("fp16", converts), ("input_", to_planes)) if wanted]
        refuse_network_options(context, *taken)
        refuse_weights(given["weights"], given["checkpoint"])
    if kind is not Kind.ONNX and not builds:
        refuse_engine_options(context)
    if given["trtexec_version"] is not None and not given["print_trtexec"]:
        raise UsageError("--trtexec-version is for the command that --print-trtexec prints: give both or neither")
    if given["print_trtexec"] and given["triton"] is not None:
        raise UsageError("--print-trtexec writes nothing, so --triton has no effect: give one of them")
    if given["print_trtexec"] and (converts or to_planes):
        made, option = ("float16", "--fp16") if converts else ("converted", "--input")
        raise UsageError(
            f"--print-trtexec writes nothing: make the {made} file first, then give that file without {option}"
        )
