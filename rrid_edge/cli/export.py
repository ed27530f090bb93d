"""``rrid-edge export``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.best_here import say_best
from rrid_edge.cli.card_steps import CardOption, LicenceOption, check_card, write_card
from rrid_edge.cli.common import JsonOption, print_json, say, show
from rrid_edge.cli.deepstream_steps import check_deepstream, write_configurations
from rrid_edge.cli.engine_options import (
    ComputeCapabilityOption,
    ExcludeLeanRuntimeOption,
    HardwareCompatibleOption,
    MaxBatchOption,
    MinBatchOption,
    OptBatchOption,
    OptimizationLevelOption,
    PrintTrtexecOption,
    StripWeightsOption,
    StrongTypingOption,
    TargetOption,
    TensorRTLogOption,
    Tf32Option,
    TimingCacheOption,
    TrtexecVersionOption,
    VersionCompatibleOption,
    WorkspaceOption,
)
from rrid_edge.cli.engine_steps import build_here, settings_of
from rrid_edge.cli.export_checks import checked_kind, refuse_options
from rrid_edge.cli.export_source import HUB_WEIGHTS, calibrate_network, load_network
from rrid_edge.cli.feed_options import DEFAULT_INPUT, DeepStreamOption, InputOption, input_form
from rrid_edge.cli.given import given_engine_options
from rrid_edge.cli.half_steps import convert, convert_to_planes, is_adopted, takes_pixels
from rrid_edge.cli.hub_files import network_file
from rrid_edge.cli.options import WeightsOption
from rrid_edge.cli.triton_steps import build_to_serve, check_triton, write_repository
from rrid_edge.cli.trtexec_steps import print_trtexec as print_command
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_export.pipeline import ExportSettings
    from rrid_export.source import SourceNetwork
    from rrid_export.tensorrt.settings import BuildSettings


@app.command(
    epilog="Example: rrid-edge export runs/demo/best.safetensors --crops demo/gallery",
    help="Export a trained network to ONNX, or an ONNX file to TensorRT. The ONNX file takes uint8 pixels and returns "
    "descriptors. --fp16 and --int8 add files of these precisions and, if TensorRT is installed, their engines. If the "
    "argument is an ONNX file, only its engine is built; with --fp16, an adopted float32 file is converted first. "
    "--for rtx builds engines for RTX PCs, without a GPU.",
)
def export(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint of rrid-edge train, published weights (also hf://OWNER/REPO[@REVISION]/FILE.safetensors), "
            "or exported or adopted ONNX file.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write to; default: models, or that of the ONNX file."),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Also write the float16 model and its TensorRT engine.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write the int8 model and its TensorRT engine; needs --calib.")
    ] = False,
    calib: Annotated[
        Path | None,
        typer.Option(help="For --int8: dataset (uses its training split) or folder of training crops."),
    ] = None,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip/--no-flip", help="Average each image with its mirror. --no-flip gives another fingerprint."
        ),
    ] = True,
    height: Annotated[
        int | None, typer.Option(help="Input rows, if the checkpoint does not say (published weights: 384).")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Input columns, if the checkpoint does not say (published weights: 128).")
    ] = None,
    weights: WeightsOption = None,
    crops: Annotated[
        Path | None, typer.Option(help="Folder of real crops for the goldens; default: drawn patterns.")
    ] = None,
    golden_crops: Annotated[
        int, typer.Option(min=2, max=10_000, help="Largest number of crops for the goldens.")
    ] = 256,
    input_: InputOption = DEFAULT_INPUT,
    deepstream: DeepStreamOption = None,
    triton: Annotated[
        Path | None,
        typer.Option(help="Write a Triton model repository into this folder; also of an engine that exists."),
    ] = None,
    triton_ensemble: Annotated[
        bool, typer.Option("--triton-ensemble", help="For --triton: also serve image files (JPEG, PNG).")
    ] = False,
    min_batch: MinBatchOption = 1,
    opt_batch: OptBatchOption = 8,
    max_batch: MaxBatchOption = 32,
    workspace: WorkspaceOption = 1024,
    version_compatible: VersionCompatibleOption = False,
    exclude_lean_runtime: ExcludeLeanRuntimeOption = False,
    hardware_compatible: HardwareCompatibleOption = False,
    strip_weights: StripWeightsOption = False,
    strongly_typed: StrongTypingOption = True,
    optimization_level: OptimizationLevelOption = None,
    tf32: Tf32Option = False,
    target: TargetOption = None,
    compute_capability: ComputeCapabilityOption = None,
    timing_cache_folder: TimingCacheOption = None,
    print_trtexec: PrintTrtexecOption = False,
    trtexec_version: TrtexecVersionOption = None,
    tensorrt_log: TensorRTLogOption = None,
    card: CardOption = False,
    licence: LicenceOption = None,
    as_json: JsonOption = False,
) -> None:
    checkpoint, origin = network_file(context, source, HUB_WEIGHTS)
    given = dict(locals())  # not context.params: Typer 0.12 to 0.27 leave text there
    from rrid_edge.model.names import Kind
    from rrid_edge.model.spec import UINT8_NHWC

    settings = settings_of(given)
    to_build: list[Path] = []
    kind = checked_kind(checkpoint, int8, calib, to_serve=triton is not None)
    check_triton(triton, ensemble=triton_ensemble)
    form = input_form(input_)
    converts = fp16 and kind is Kind.ONNX and is_adopted(checkpoint)
    to_planes = form != UINT8_NHWC and kind is Kind.ONNX and takes_pixels(checkpoint)
    builds = bool(fp16 or int8 or target or deepstream)
    refuse_options(context, given, kind, builds=builds, converts=converts, to_planes=to_planes)
    check_card(card, licence, output or Path("models"))
    check_deepstream(deepstream, checkpoint, form, kind, settings)
    if print_trtexec:
        print_command(checkpoint, settings, trtexec_version, output, as_json=as_json)
        return
    facts: dict[str, object] = {}
    if kind is Kind.ONNX:
        checkpoint, written, facts, to_build = _export_onnx(context, given, settings, (converts, to_planes))
    elif kind is Kind.ENGINE:
        written = checkpoint
    else:
        facts, to_build = _export_checkpoint(given, form)
        written = Path(str(facts["model_fp16" if fp16 else "model"]))
        if target and not to_build:
            to_build = [written]
    if deepstream is not None:
        facts["deepstream"] = write_configurations(facts, checkpoint, deepstream, settings, output)
    if triton is not None:
        facts["triton"] = str(write_repository(written, triton, ensemble=triton_ensemble))
    if as_json:
        print_json(facts)
    if to_build:
        needs_engine, options = fp16 or target is not None, given_engine_options(context)
        best = facts.get("best_here") if target is None else None
        build_here(to_build, settings, options, required=needs_engine, quiet=as_json, best_here=best)


def _export_onnx(
    context: typer.Context, given: Mapping[str, Any], settings: BuildSettings, conversions: tuple[bool, bool]
) -> tuple[Path, Path, dict[str, object], list[Path]]:
    """Convert an adopted ONNX file if asked to, and build the engine to serve.

    Args:
        context: the command's context.
        given: the command's parameters.
        settings: how to build.
        conversions: whether to convert to float16, and to an input of float32 planes.

    Returns:
        The ONNX file to go on with, the file to serve, the facts to print as JSON, and the files whose engines are
        still to be built.
    """
    model, output, quiet = given["checkpoint"], given["output"], given["as_json"]
    serves_deepstream, triton = given["deepstream"] is not None, given["triton"]
    facts: dict[str, object] = {}
    if conversions[0]:
        model, facts = convert(model, output, quiet=quiet)
    if conversions[1]:
        model = convert_to_planes(model, output, quiet=quiet)
        facts["model_planes"] = str(model)
    if any(conversions) and triton is None and not serves_deepstream:
        return model, model, facts, [model]
    # DeepStream's configurations take the batch sizes too, so options of an engine ask for none there.
    required = not serves_deepstream and (triton is None or bool(given_engine_options(context)))
    server = "DeepStream" if triton is None else "Triton"
    written = build_to_serve(model, settings, output, required=required, quiet=quiet, server=server)
    if written != model:
        facts["engine"] = str(written)
    return model, written, facts, []


def _export_checkpoint(given: Mapping[str, Any], form: str) -> tuple[dict[str, object], list[Path]]:
    """Write the ONNX files of a checkpoint; see :func:`_export_network`.

    Args:
        given: the command's parameters.
        form: form of the files' input.
    """
    from rrid_edge.crops.folder import find_images

    output, crops = given["output"] or Path("models"), given["crops"]
    source = load_network(given)
    say(f"{source.describe()}; writing to {output}")
    from rrid_export.pipeline import ExportSettings

    for line in find_images(crops).remarks if crops is not None else ():
        say(line)
    settings = ExportSettings(given["flip"], crops, given["fp16"], given["golden_crops"], form)
    facts, to_build = _export_network(source, output, settings, given["calib"], quiet=given["as_json"])
    if given["card"]:
        model = Path(str(facts["model"]))
        facts["card"] = write_card(model, given["licence"], drawn=crops is None, quiet=given["as_json"])
    return facts, to_build


def _export_network(
    source: SourceNetwork, output: Path, settings: ExportSettings, calib: Path | None, *, quiet: bool
) -> tuple[dict[str, object], list[Path]]:
    """Write the ONNX files of a checkpoint.

    Returns:
        The facts to print as JSON, and the ONNX files whose engines are to be built.
    """
    from rrid_edge.model.names import onnx_path
    from rrid_export.onnx import describe
    from rrid_export.pipeline import export_network

    facts: dict[str, object] = {}
    for ending, result in zip(("", "_fp16"), export_network(source, output, settings), strict=False):
        facts[f"model{ending}"] = str(result.model)
        facts[f"parity{ending}"] = result.parity.to_dict()
        facts["goldens"] = str(result.goldens)
        if not quiet:
            show(describe(result.model))
            show(
                f"parity with PyTorch over {result.parity.agreement.images} images: minimum cosine "
                f"{result.parity.agreement.min_cosine:.7f} ({result.report})"
            )
        for line in result.parity.undecided:
            say(f"{printable(result.model)}: parity is not decided: {line}")
    for line in result.left_out:
        say(f"left out {line}")
    facts["sample"] = result.sample.to_dict()
    best = say_best(onnx_path(output, "fp32", settings.form), result.model) if settings.fp16 else result.model
    facts["best_here"] = str(best)
    if not quiet:
        size_mb = result.goldens.stat().st_size / 1e6
        what = result.sample.describe()
        if settings.crops is None:
            what = f"{len(result.sample)} drawn patterns, which prove only a float32 model; --crops takes real crops"
        show(f"goldens {result.goldens}, {size_mb:.1f} MB: {what}")
        fingerprint = source.spec(flip=settings.flip).fingerprint[:12]
        show(f"fingerprint {fingerprint}; next: rrid-edge match query.jpg gallery/ --model {best}")
    to_build = [onnx_path(output, "fp16", settings.form)] if settings.fp16 else []
    if calib is not None:
        exact = onnx_path(output, "fp32", settings.form)
        facts["int8"] = calibrate_network(source, exact, calib, settings.flip, quiet=quiet)
        to_build.append(onnx_path(output, "int8", settings.form))
    return facts, to_build
