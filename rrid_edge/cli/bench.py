"""``rrid-edge bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.cli.options import ModelOption, ThreadsOption
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rrid_edge.bench.variants import Variant
    from rrid_edge.engines.base import Engine
    from rrid_edge.parity.goldens import Goldens

_YARDSTICKS = ("published", "torch-compile")


@app.command(
    epilog="Example: rrid-edge bench --quick --model demo/models/rrid.onnx",
    help="Measure what this machine does with a model, accuracy beside speed: latency, throughput, memory and loading of "
    "every runtime; files to index; search. Parity is measured on the goldens beside the model, or on --data.",
)
def bench(
    model: ModelOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: under two minutes on two cores.")] = False,
    goldens: Annotated[Path | None, typer.Option(help="Goldens of the model; those beside it if left out.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of crops whose names tell person and camera: for parity; needs --checkpoint."),
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Crops of --data to take at most, evenly spaced.")] = 500,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="A yardstick, which comes first: published (two eager passes, a copy per block) or torch-compile (the "
            "strongest plain PyTorch); may be given several times; needs --checkpoint."
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The network that the model was exported from.")] = None,
    threads: ThreadsOption = 0,
    chart: Annotated[Path | None, typer.Option(help="Draw throughput against latency into this PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.bench.running import BenchSettings, run_bench
    from rrid_edge.model.choice import choose_model

    path, why = choose_model(model)
    say(f"model {printable(path)} ({why})")
    yardsticks = _yardsticks(list(against or ()), checkpoint, path, threads)
    images, reference = _images(path, goldens, data, checkpoint, count)
    with ProgressBar("measuring") as bar:
        report = run_bench(
            path,
            images,
            BenchSettings.quick(threads) if quick else BenchSettings.full(threads),
            against=yardsticks,
            reference=reference,
            progress=bar,
        )
    if chart is not None:
        from rrid_edge.bench.chart import write_chart

        write_chart(chart, report)
        say(f"written: {printable(chart)}")
    if as_json:
        print_json(report.to_dict())
        return
    print(report.table())


def _images(
    model: Path, goldens: Path | None, data: Path | None, checkpoint: Path | None, count: int
) -> tuple[Goldens, str]:
    """What is run, the reference's descriptors of it, and the reference's name."""
    from rrid_edge.model.names import goldens_path
    from rrid_edge.model.reading import read_any_spec
    from rrid_edge.parity.goldens import Goldens, load_goldens

    if data is None:
        path = goldens or goldens_path(model)
        return load_goldens(path), f"goldens {printable(path)}"
    if goldens is not None:
        raise UsageError("--data and --goldens exclude each other: parity is measured on one of them; give one")
    if checkpoint is None:
        raise UsageError("--data is compared with the trained network: give --checkpoint FILE")
    from rrid_edge.cli.parity import read_crops, reference_network

    with reference_network(checkpoint, read_any_spec(model)) as network:
        pixels, names, labels = read_crops(data, network.spec, count)
        say(f"{len(names)} crops through {network.runtime}")
        found = Goldens(pixels, network.run(pixels), names, network.spec.fingerprint, labels)
        return found, f"{printable(checkpoint)} on {network.runtime} over {len(names)} crops of {printable(data)}"


def _yardsticks(against: list[str], checkpoint: Path | None, model: Path, threads: int) -> list[Variant]:
    unknown = next((name for name in against if name not in _YARDSTICKS), None)
    if unknown is not None:
        raise UsageError(f"--against {unknown!r} is unknown: expected one of {', '.join(_YARDSTICKS)}")
    if not against:
        return []
    if checkpoint is None:
        raise UsageError(f"--against {against[0]} runs the trained network: give --checkpoint FILE")
    require("rrid_export.torch_engine", "export", "running the network in PyTorch")
    from rrid_edge.bench.variants import Variant
    from rrid_edge.model.reading import read_any_spec
    from rrid_export.source import load_source
    from rrid_export.yardsticks import CompiledTorchEngine, PublishedEngine
    from rrid_train.checkpoint import is_checkpoint

    spec = read_any_spec(model)
    size = {} if is_checkpoint(checkpoint) else {"height_px": spec.height_px, "width_px": spec.width_px}
    kinds = {"published": PublishedEngine, "torch-compile": CompiledTorchEngine}

    def opener(name: str) -> Callable[[], Engine]:
        return lambda: kinds[name](load_source(checkpoint, **size), flip=spec.flip, threads=threads)

    return [Variant(f"{name} (PyTorch)", opener(name)) for name in _YARDSTICKS if name in against]
