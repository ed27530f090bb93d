"""``rrid-edge bench``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json, progress, require, say
from rrid_edge.cli.opening import ModelOption, ThreadsOption
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.bench.variants import Variant

_YARDSTICKS = ("published", "torch-compile")


@app.command(
    epilog="Example: rrid-edge bench --quick --model demo/models/rrid.onnx",
    help="Measure what this machine does with a model, accuracy beside speed: latency, throughput, memory and loading of "
    "every runtime; files to index; search. Parity is measured on the goldens beside the model.",
)
def bench(
    model: ModelOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: under two minutes on two cores.")] = False,
    goldens: Annotated[Path | None, typer.Option(help="Goldens of the model; those beside it if left out.")] = None,
    against: Annotated[
        str | None, typer.Option(help="A yardstick: published (two eager passes) or torch-compile; needs --checkpoint.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The network that the model was exported from.")] = None,
    threads: ThreadsOption = 0,
    chart: Annotated[Path | None, typer.Option(help="Draw throughput against latency into this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    from dataclasses import replace

    from rrid_edge.bench.running import QUICK, BenchSettings, run_bench
    from rrid_edge.goldens import load_goldens
    from rrid_edge.models import choose_model

    path, why = choose_model(model)
    say(f"model {printable(path)} ({why})")
    goldens_path = goldens or path.with_name(path.name.split(".")[0] + ".goldens.npz")
    settings = replace(QUICK if quick else BenchSettings(), threads=threads)
    yardsticks = _yardsticks(against, checkpoint, threads)
    with contextlib.ExitStack() as stack:
        steps = [lambda _done: None]
        report = run_bench(
            path,
            load_goldens(goldens_path),
            settings,
            against=yardsticks,
            reference=f"goldens {printable(goldens_path)}",
            begin=lambda total: steps.__setitem__(0, stack.enter_context(progress("measuring", total))),
            advance=lambda done: steps[0](done),
        )
    if chart is not None:
        from rrid_edge.bench.chart import write_chart

        write_chart(chart, report)
        say(f"written: {printable(chart)}")
    if as_json:
        print_json(report.to_dict())
        return
    print(report.table())


def _yardsticks(against: str | None, checkpoint: Path | None, threads: int) -> list[Variant]:
    if against is None:
        return []
    if against not in _YARDSTICKS:
        raise UsageError(f"--against {against!r} is unknown: expected one of {', '.join(_YARDSTICKS)}")
    if checkpoint is None:
        raise UsageError(f"--against {against} runs the trained network: give --checkpoint FILE")
    require("rrid_export.torch_engine", "export", "running the network in PyTorch")
    from rrid_edge.bench.variants import Variant
    from rrid_export.torch_engine import CompiledTorchEngine, TorchEngine

    kind = TorchEngine if against == "published" else CompiledTorchEngine
    return [Variant(f"{against} (PyTorch)", lambda: kind.from_checkpoint(checkpoint, threads=threads))]
