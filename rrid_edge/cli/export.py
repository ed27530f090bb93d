"""``rrid-edge export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.errors import MissingDependencyError, UsageError, printable

if TYPE_CHECKING:
    from rrid_export.source import SourceNetwork
    from rrid_export.tensorrt.build import BuildSettings


@app.command(
    epilog="Example: rrid-edge export runs/demo/best.safetensors --crops demo/gallery",
    help="Export a trained network to an ONNX file that holds the whole way from uint8 pixels to descriptors; with --fp16 "
    "(--int8) also to a float16 (int8) one and, where TensorRT is, to its engine. Given an ONNX file of this package, build "
    "the engine.",
)
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint of rrid-edge train, the published network's weights, or an exported ONNX file."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("models"),
    fp16: Annotated[bool, typer.Option("--fp16", help="Also the float16 model and its TensorRT engine.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also the int8 model, calibrated with --calib, and its TensorRT engine.")
    ] = False,
    calib: Annotated[
        Path | None,
        typer.Option(help="For --int8: a dataset (its training split is taken) or a folder of training crops."),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip/--no-flip", help="Average with the mirrored image (another model without).")
    ] = True,
    height: Annotated[
        int | None, typer.Option(help="Input rows, where the file does not tell (384 for published weights).")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Input columns, likewise (128).")] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Folder of real crops for the golden descriptors; drawn noise without it.")
    ] = None,
    triton: Annotated[Path | None, typer.Option(help="Also write a Triton model repository here.")] = None,
    min_batch: Annotated[int, typer.Option(min=1, help="Engine: smallest batch.")] = 1,
    opt_batch: Annotated[int, typer.Option(min=1, help="Engine: batch it is tuned for.")] = 8,
    max_batch: Annotated[int, typer.Option(min=1, help="Engine: largest batch.")] = 32,
    workspace: Annotated[int, typer.Option(min=1, help="Engine: scratch memory of the builder in MiB.")] = 1024,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engine: for newer TensorRT versions too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Engine: for other GPUs too (not on Jetson).")
    ] = False,
    strip_weights: Annotated[bool, typer.Option("--strip-weights", help="Engine: without its weights.")] = False,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.model.names import Kind, kind_of, onnx_path
    from rrid_export.tensorrt.build import BuildSettings

    settings = BuildSettings(
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        workspace_mib=workspace,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        strip_weights=strip_weights,
    )
    if int8 != (calib is not None):
        raise UsageError(
            "--int8 and --calib DIR go together: give --int8 and the dataset, or a folder of training crops, whose ranges "
            "the int8 model shall hold"
        )
    kind = kind_of(checkpoint)
    if kind is Kind.ENGINE:
        raise UsageError(
            f"{printable(checkpoint)}: this is an engine already; give a checkpoint, or the ONNX file to build it from"
        )
    if kind is Kind.ONNX:
        if int8:
            raise UsageError(f"{printable(checkpoint)}: for an ONNX file run: rrid-edge calibrate MODEL --images DIR")
        written = _build(checkpoint, settings)
        facts: dict[str, object] = {"engine": str(written)}
        to_build: list[Path] = []
    else:
        source = _load(checkpoint, height, width, output)
        facts = _export_network(source, output, flip, crops, fp16, quiet=as_json)
        full, half = onnx_path(output, "fp32"), onnx_path(output, "fp16")
        to_build = [half] if fp16 else []
        written = half if fp16 else full
        if calib is not None:
            facts["int8"] = _calibrate(source, full, calib, flip, quiet=as_json)
            to_build.append(onnx_path(output, "int8"))
    if triton is not None:
        from rrid_export.triton import write_triton_repository

        facts["triton"] = str(write_triton_repository(written, triton))
        say(f"written: {facts['triton']}")
    if as_json:
        print_json(facts)
    if to_build:
        _build_here(to_build, settings, required=fp16)


def _load(checkpoint: Path, height: int | None, width: int | None, output: Path) -> SourceNetwork:
    require("rrid_export.onnx", "export", "exporting a model")
    from rrid_export.source import load_source

    source = load_source(checkpoint, height_px=height, width_px=width)
    say(f"{source.describe()}; writing to {output}")
    return source


def _calibrate(source: SourceNetwork, model: Path, images: Path, flip: bool, *, quiet: bool) -> dict[str, object]:
    """Write the int8 file, compared with the trained network in PyTorch."""
    require("rrid_calib.calibrate", "calib", "calibrating a model")
    from rrid_calib.calibrate import calibrate
    from rrid_export.torch_engine import TorchEngine

    result = calibrate(model, images, reference=TorchEngine(source, flip=flip, max_batch=16), say=say)
    if not quiet:
        print(result.describe())
    return result.to_dict()


def _export_network(
    source: SourceNetwork, output: Path, flip: bool, crops: Path | None, fp16: bool, *, quiet: bool
) -> dict[str, object]:
    """Write the ONNX files of a checkpoint; returns what was written."""
    from rrid_export.onnx import describe
    from rrid_export.pipeline import ExportSettings, export_network

    facts: dict[str, object] = {}
    for ending, result in zip(
        ("", "_fp16"), export_network(source, output, ExportSettings(flip, crops, fp16)), strict=False
    ):
        facts[f"model{ending}"] = str(result.model)
        facts[f"parity{ending}"] = result.parity.to_dict()
        facts["goldens"] = str(result.goldens)
        if not quiet:
            print(describe(result.model))
            print(
                f"parity with PyTorch over {result.parity.agreement.images} images: minimum cosine "
                f"{result.parity.agreement.min_cosine:.7f} ({result.report})"
            )
    if not quiet:
        fingerprint = source.spec(flip=flip).fingerprint[:12]
        print(f"fingerprint {fingerprint}; next: rrid-edge match query.jpg gallery/ --model {result.model}")
    return facts


def _build(onnx: Path, settings: BuildSettings) -> Path:
    """Build the TensorRT engine of an ONNX file beside it, with a progress bar; returns the engine file."""
    from rrid_edge.model.names import engine_path
    from rrid_edge.model.onnx_header import read_spec
    from rrid_export.tensorrt.build import build_engine

    engine = engine_path(onnx, read_spec(onnx).precision)
    with ProgressBar("building the engine") as bar:
        sidecar = build_engine(onnx, engine, settings, progress=bar)
    print(f"{engine}: {sidecar.spec.precision} engine in {sidecar.build_s:.0f} s")
    return engine


def _build_here(models: list[Path], settings: BuildSettings, *, required: bool) -> None:
    """Build the engines on this machine, or say what was not built and what to run on the device.

    Raises:
        MissingDependencyError: TensorRT or a GPU is not here, and the engines are ``required``.
    """
    try:
        for onnx in models:
            _build(onnx, settings)
    except MissingDependencyError as error:
        names, commands = " and ".join(map(str, models)), "; ".join(f"rrid-edge export {onnx}" for onnx in models)
        line = f"{names}: written, but no TensorRT engine was built ({error.message}); on the device run: {commands}"
        if required:
            raise MissingDependencyError(line) from error
        say(line)  # int8 alone: OpenVINO runs it on the CPU as it is
