"""``rrid-edge engine``: engines that other programs built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, say, show
from rrid_edge.cli.engine_options import TensorRTLogOption
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_export.tensorrt.adopting import Adoption

engine_app = typer.Typer(help="Adopt engines that trtexec built.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(engine_app, name="engine")


@engine_app.callback()
def _group() -> None:
    """Keep ``adopt`` a command of the group, although it is the only one."""


@engine_app.command(
    "adopt",
    epilog="Example: rrid-edge engine adopt models/rrid.fp16.engine --onnx models/rrid.fp16.onnx",
    help="Prove a plan that trtexec built, and write its sidecar. Checks its tensors, the precision of its layers, and "
    "its descriptors: against goldens beside the files, or against the ONNX file on this machine. A plan that fails "
    "gets no sidecar, and the exit code is 1 (precision, descriptors) or 4 (tensors, or TensorRT refuses it). Loading "
    "a plan runs code from it: adopt only plans that you built.",
)
def adopt(
    plan: Annotated[Path, typer.Argument(help="Plan, named as an engine: rrid.fp16.engine or rrid.fp16.plan.")],
    onnx: Annotated[Path, typer.Option("--onnx", help="ONNX file that the plan was built from.")],
    crops: Annotated[
        Path | None,
        typer.Option(help="Compare on this folder of crops. [default: goldens beside the files, else drawn patterns]"),
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Largest number of crops.")] = 64,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="The plan was built with trtexec --versionCompatible.")
    ] = False,
    exclude_lean_runtime: Annotated[
        bool, typer.Option("--exclude-lean-runtime", help="It was built with --excludeLeanRuntime too.")
    ] = False,
    strip_weights: Annotated[
        bool, typer.Option("--strip-weights", help="The plan was built with trtexec --stripWeights.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a sidecar that exists.")] = False,
    tensorrt_log: TensorRTLogOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_export.tensorrt.adopting import AdoptSettings, adopt_plan

    settings = AdoptSettings(
        version_compatible=version_compatible,
        exclude_lean_runtime=exclude_lean_runtime,
        strip_weights=strip_weights,
        crops=crops,
        count=count,
        replace=replace,
    )
    adoption = adopt_plan(plan, onnx, settings)
    for line in adoption.left_out:
        say(f"left out {line}")
    if as_json:
        print_json({"engine": str(plan), "sidecar": adoption.sidecar.to_json(), "parity": adoption.report.to_dict()})
    else:
        _print(plan, adoption)
    for line in adoption.report.undecided:
        say(f"not decided: {line}")
    say(f"on real crops, run: rrid-edge parity {printable(plan)}")


def _print(plan: Path, adoption: Adoption) -> None:
    from rrid_edge.model.names import sidecar_path

    sidecar, report = adoption.sidecar, adoption.report
    profile = sidecar.profile
    batches = f"{profile.min_batch} to {profile.max_batch}"
    show(f"{printable(plan)}: adopted as {sidecar.spec.precision} engine for batches of {batches}")
    show(f"sidecar {printable(sidecar_path(plan))}")
    show(
        f"agrees with {report.reference} over {report.agreement.images} images: minimum cosine "
        f"{report.agreement.min_cosine:.7f}"
    )
