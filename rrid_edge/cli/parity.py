"""``rrid-edge parity``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, say, show
from rrid_edge.cli.options import FollowLinksOption, PrecisionOption, RuntimeOption, ThreadsOption, WeightsOption
from rrid_edge.cli.steps import open_model, open_network, refuse_weights, say_files_left_out
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rrid_edge.parity.check import ParityReport
    from rrid_edge.parity.diagnosis import Diagnosis, Run
    from rrid_edge.ranking.sampling import PeopleSample


@app.command(
    epilog="Example: rrid-edge parity demo/models/rrid.onnx --reference runs/demo/best.safetensors "
    "--images demo/gallery",
    help="Check that an engine agrees with its reference. It exits with code 1 if it does not. The reference is a "
    "checkpoint (runs in PyTorch), another model file, or goldens that export saved (no PyTorch needed).",
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
    output: Annotated[
        Path | None,
        typer.Option(help="Report to write; default: parity.json for rrid.onnx, else MODEL.parity.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.model.names import Kind, goldens_path, is_engine, kind_of, parity_report_path
    from rrid_edge.model.weights import has_sum
    from rrid_edge.parity.reference import ReferenceSettings
    from rrid_edge.parity.run import run_parity

    if reference is None or kind_of(reference) is not Kind.CHECKPOINT:
        refuse_weights(weights, reference)
    path, engine = open_model(model, None, runtime, precision, threads)
    settings = ReferenceSettings(reference, images, count, seed, follow_links)
    with engine:
        network = functools.partial(open_network, weights=weights)
        run = run_parity(engine, path, settings, open_network=network, mistaken_networks=_mistaken_networks)
    if not is_engine(path) and not has_sum(path):
        say(f"nothing vouches for the weights of {printable(path)} (the file has format 1): export it again")
    if kind_of(reference or goldens_path(path)) is Kind.GOLDENS:
        if run.reference.sample.unmeasured is not None:
            say(
                f"{run.reference.name}: their labels allow no mAP and rank-1; give --reference and --images, or "
                "write them from labelled crops with: rrid-edge export CHECKPOINT --crops FOLDER"
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
        _print(run.report, report_path, run.diagnosis, run.reference.sample)
    run.refuse_failure()


def _mistaken_networks(graph: Path) -> Mapping[str, Run]:
    from rrid_export.mistakes import mistaken_networks

    return mistaken_networks(graph)


def _print(report: ParityReport, path: Path, diagnosis: Diagnosis | None, sample: PeopleSample) -> None:
    agreement, tolerance = report.agreement, report.tolerance
    rows = [
        ("minimum cosine", f"{agreement.min_cosine:.7f}", f">= {tolerance.min_cosine}"),
        ("1st percentile", f"{agreement.p1_cosine:.7f}", ""),
        ("mean cosine", f"{agreement.mean_cosine:.7f}", ""),
        ("largest difference", f"{agreement.max_abs_difference:.2e}", ""),
        ("worst block", f"{agreement.worst_block_cosine:.7f}", agreement.worst_block),
        ("top-1 agreement", f"{agreement.top1_agreement:.2%}", f">= {tolerance.top1:.1%}"),
        ("top-10 agreement", f"{agreement.top10_agreement:.2%}", "identical" if tolerance.top10_identical else ""),
        ("Kendall tau", f"{agreement.kendall_tau:.6f}", ""),
        ("batch invariance", f"{report.batch_min_cosine:.7f}", f">= {tolerance.min_cosine}"),
    ]
    if report.map_change is not None and report.rank1_change is not None:
        rows.append(("mAP change", f"{report.map_change:+.4f}", f">= -{tolerance.max_map_loss}"))
        rows.append(("rank-1 change", f"{report.rank1_change:+.4f}", ""))
    show(f"engine     {report.engine} ({report.arithmetic})")
    show(f"reference  {report.reference}, {agreement.images} images")
    show(f"sample     {sample.describe()}")
    for name, value, limit in rows:
        show(f"{name:<20}{value:>12}  {limit}")
    if diagnosis is not None:
        show(f"cause      {diagnosis.sentence()}")
        for finding in diagnosis.tried[:3]:
            cosines = f"mean cosine {finding.mean_cosine:.7f}, minimum {finding.min_cosine:.7f}"
            show(f"  with {finding.mistake:<24}{cosines}")
    show(f"{'PASSED' if report.passed else 'FAILED'}  ({printable(path)})")
