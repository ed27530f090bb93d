"""``rrid-edge bench``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import ModelOption, ThreadsOption, WeightsOption
from rrid_edge.cli.steps import open_network, refuse_weights
from rrid_edge.cli.terminal import is_verbose
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.bench.inputs import InputSettings
    from rrid_edge.bench.variants import Variant
    from rrid_edge.model.spec import ModelSpec


@app.command(
    epilog="Example: rrid-edge bench --quick --model demo/models/rrid.onnx",
    help="Measure speed, memory and accuracy of a model on this machine. Every installed runtime is measured (latency, "
    "throughput, memory, loading), then indexing from files, then search. Accuracy is parity with the goldens beside "
    "the model, or with --checkpoint on --data.",
)
def bench(
    model: ModelOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure less: under two minutes on two cores.")] = False,
    goldens: Annotated[Path | None, typer.Option(help="Goldens of the model; default: those beside it.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled crops for parity; needs --checkpoint."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=2, help="Largest number of crops for parity; default: 512, with --quick 40.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of people and crops.")] = 0,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Yardstick to measure first: published (the authors' loop) or torch-compile (the fastest plain "
            "PyTorch). Repeatable; needs --checkpoint.",
            autocompletion=one_of("published torch-compile"),
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Network that the model was exported from.")] = None,
    weights: WeightsOption = None,
    threads: ThreadsOption = 0,
    chart: Annotated[Path | None, typer.Option(help="Draw throughput over latency into this PNG file.")] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.bench.inputs import QUICK_CROPS, InputSettings, read_inputs
    from rrid_edge.bench.running import BenchSettings, run_bench
    from rrid_edge.bench.table import table
    from rrid_edge.model.choice import choose_model
    from rrid_edge.model.reading import read_any_spec
    from rrid_edge.parity.reference import PARITY_CROPS

    if checkpoint is None:
        refuse_weights(weights, goldens)
    path, why = choose_model(model)
    say(f"model {printable(path)} ({why})")
    most = count or (QUICK_CROPS if quick else PARITY_CROPS)
    inputs = InputSettings(goldens, data, checkpoint, most, seed, tuple(against or ()))
    spec = read_any_spec(path)
    yardsticks = _yardsticks(inputs, spec, threads, weights)
    reference = read_inputs(path, spec, inputs, functools.partial(open_network, weights=weights))
    for line in reference.left_out:
        say(f"left out {line}")
    with ProgressBar("measuring") as bar:
        report = run_bench(
            path,
            reference,
            BenchSettings.quick(threads) if quick else BenchSettings.full(threads),
            against=yardsticks,
            progress=bar,
        )
    if chart is not None:
        from rrid_edge.bench.chart import write_chart

        write_chart(chart, report)
        say(f"written: {printable(chart)}")
    if as_json:
        print_json(report.to_dict())
        return
    print(table(report, in_full=is_verbose()))


def _yardsticks(inputs: InputSettings, spec: ModelSpec, threads: int, weights: str | None) -> list[Variant]:
    if not inputs.against or inputs.checkpoint is None:
        return []
    require("rrid_export.yardsticks", "export", "running the network in PyTorch")
    from rrid_export.yardsticks import yardsticks

    return yardsticks(inputs.against, inputs.checkpoint, spec, threads, weights)
