"""``rrid-edge parity``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, say, show
from rrid_edge.cli.engine_options import TensorRTLogOption
from rrid_edge.cli.options import FollowLinksOption, PrecisionOption, RuntimeOption, ThreadsOption, WeightsOption
from rrid_edge.cli.outputs import refuse_report
from rrid_edge.cli.steps import AskedRuntime, open_model, open_network, refuse_weights, say_files_left_out
from rrid_edge.cli.wrapping import show_beside
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from rrid_edge.parity.check import ParityReport
    from rrid_edge.parity.diagnosis import Run
    from rrid_edge.parity.run import ParityRun


@app.command(
    epilog="Example: rrid-edge parity demo/models/rrid.onnx --reference runs/demo/best.safetensors "
    "--images demo/gallery",
    help="Check that an engine agrees with its reference. It exits with code 1 if it does not, and with 0 and a "
    "warning if the crops are too few to decide. The reference is a checkpoint (runs in PyTorch), another model file, "
    "or goldens that export or adopt saved (no PyTorch needed).",
)
def parity(
    model: Annotated[
        Path | None, typer.Argument(help="Model file to check; default: RRID_EDGE_MODEL or the best in models/.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Checkpoint, model file or goldens (.npz); default: the goldens beside the model."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of crops to compare on. With goldens: their source folder, to check their pixels."),
    ] = None,
    count: Annotated[
        int, typer.Option(min=2, help="Largest number of crops: all crops of some people, and distractors.")
    ] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of people and crops.")] = 0,
    follow_links: FollowLinksOption = False,
    weights: WeightsOption = None,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 also if so few crops decide nothing.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Report to write; default: parity.json for rrid.onnx, else MODEL.parity.json."),
    ] = None,
    tensorrt_log: TensorRTLogOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.model.names import Kind, goldens_path, kind_of, parity_report_path
    from rrid_edge.model.weights import has_sum
    from rrid_edge.parity.reference import ReferenceSettings
    from rrid_edge.parity.run import GraphTools, run_parity

    refuse_report(output)
    if reference is None or kind_of(reference) is not Kind.CHECKPOINT:
        refuse_weights(weights, reference)
    path, engine = open_model(model, None, AskedRuntime(runtime, precision, threads))
    settings = ReferenceSettings(reference, images, count, seed, follow_links)
    with engine:
        network = functools.partial(open_network, weights=weights)
        run = run_parity(
            engine, path, settings, open_network=network, graph_tools=GraphTools(_mistaken_networks, _layer_directions)
        )
    if kind_of(path) is Kind.ONNX and not has_sum(path):
        say(f"nothing vouches for the weights of {printable(path)} (the file has format 1): export it again")
    if kind_of(reference or goldens_path(path)) is Kind.GOLDENS:
        if run.reference.sample.unmeasured is not None:
            say(
                f"{run.reference.name}: their labels allow no mAP and rank-1; give --reference and --images, or "
                "write them from labelled crops with: rrid-edge export CHECKPOINT --crops FOLDER, or rrid-edge adopt "
                "FILE --crops FOLDER"
            )
    elif images is not None:
        say_files_left_out(images, follow_links=follow_links)
    for line in run.reference.left_out:
        say(f"left out {line}")
    if run.untried:
        say(f"not tried: {'; '.join(run.untried)}")
    report_path = output or parity_report_path(path)
    run.write(report_path)
    if as_json:
        print_json(run.to_dict())
    else:
        _print(run, report_path)
    for line in run.report.undecided:
        say(f"not decided: {line}")
    run.refuse_failure(strict=strict)


def _mistaken_networks(graph: Path) -> Mapping[str, Run]:
    from rrid_export.mistakes import mistaken_networks

    return mistaken_networks(graph)


def _layer_directions(
    graph: Path, images: NDArray[np.uint8], only: Collection[str] | None
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    from rrid_export.layer_scales import layer_directions

    return layer_directions(graph, images, only)


def _print(run: ParityRun, path: Path) -> None:
    report = run.report
    show_beside("engine     ", f"{report.engine} ({report.arithmetic})")
    show_beside("reference  ", f"{report.reference}, {report.agreement.images:,} images")
    show_beside("sample     ", run.reference.sample.describe())
    for name, value, limit in (
        *_vector_rows(report),
        *_answer_rows(report),
        *_retrieval_rows(report),
        *_layer_rows(run),
    ):
        show_beside(f"{name:<20}{value:>15}  ", limit)
    if run.cause() is not None:
        show_beside("cause      ", str(run.cause()))
    for finding in run.diagnosis.tried[:3] if run.diagnosis is not None else ():
        cosines = f"mean cosine {finding.mean_cosine:.7f}, minimum {finding.min_cosine:.7f}"
        show(f"  with {finding.mistake:<24}{cosines}")
    show(f"{run.outcome.value.upper()}  ({printable(path)})")


def _vector_rows(report: ParityReport) -> Iterator[tuple[str, str, str]]:
    """Name, value and limit of each measure of the descriptors as vectors."""
    agreement, tolerance = report.agreement, report.tolerance
    yield "1 - minimum cosine", f"{1 - agreement.min_cosine:.1e}", f"<= {1 - tolerance.min_cosine:.0e}"
    yield "1 - mean cosine", f"{1 - agreement.mean_cosine:.1e}", f"<= {1 - tolerance.mean_cosine:.0e}"
    yield "worst block", f"{1 - agreement.worst_block_cosine:.1e}", f"{agreement.worst_block}, 1 - mean cosine"
    yield "largest difference", f"{agreement.max_abs_difference:.1e}", "of one value"
    yield "error of a score", f"{agreement.pair_error:.1e}", "root mean square over pairs"
    yield "batch invariance", f"{1 - report.batch_min_cosine:.1e}", f"<= {1 - tolerance.min_cosine:.0e}"


def _answer_rows(report: ParityReport) -> Iterator[tuple[str, str, str]]:
    """Name, value and limit of each measure of the rankings of all images."""
    from rrid_edge.parity.confidence import share_bounds

    agreement, tolerance = report.agreement, report.tolerance
    if not agreement.answers:
        return
    labelled = report.map_interval is not None
    labels = f", right to wrong {agreement.right_to_wrong}, wrong to right {agreement.wrong_to_right}"
    changed = f"of {agreement.answers:,} first answers: unexplained {agreement.unexplained}{labels if labelled else ''}"
    yield "changed", f"{agreement.changed:,}", changed
    upper = share_bounds(agreement.counted, agreement.answers)[1]
    limit = "" if tolerance.exact else f", with 95 % confidence <= {tolerance.changed:.1%}"
    yield "counted", f"{agreement.counted:,}", f"unexplained or right to wrong: up to {upper:.2%}{limit}"
    yield "top-10 agreement", f"{agreement.top10_agreement:.2%}", ""
    yield "Kendall tau", f"{agreement.kendall_tau:.6f}", ""


def _retrieval_rows(report: ParityReport) -> Iterator[tuple[str, str, str]]:
    """Name, value and limit of the changes of mAP and rank-1, if the labels are known."""
    limits = (f"; lower end >= {-report.tolerance.max_map_loss}", "")
    changes = (report.map_interval, report.rank1_interval)
    for name, change, limit in zip(("mAP change", "rank-1 change"), changes, limits, strict=True):
        if change is not None:
            interval = f"95 % interval {change.low:+.4f} to {change.high:+.4f}, {change.queries:,} queries"
            yield name, f"{change.mean:+.4f}", interval + limit


def _layer_rows(run: ParityRun) -> Iterator[tuple[str, str, str]]:
    """Name, value and limit of the largest error of a layer's scale, if it was checked."""
    from rrid_edge.parity.layers import LARGEST_SCALE_ERROR

    if run.layers:
        worst = max(run.layers, key=lambda scale: abs(scale.error))
        yield "layer scales", f"{worst.error:+.2%}", f"largest error, {worst.layer}; <= {LARGEST_SCALE_ERROR:.2%}"
