"""``rrid-edge index``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, print_json
from rrid_edge.cli.opening import (
    IndexTypeOption,
    ModelOption,
    PatternOption,
    PrecisionOption,
    ReplicasOption,
    RuntimeOption,
    StoreOption,
    ThreadsOption,
    gallery_model,
    open_model,
    run_index,
)


@app.command(
    epilog="Example: rrid-edge index demo/gallery --model demo/models/rrid.onnx",
    help="Index a folder of crops, or bring its index in step: what is new or changed is embedded, what is gone goes.",
)
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of crops, searched through.")],
    model: ModelOption = None,
    store: StoreOption = None,
    pattern: PatternOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding threads.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a call of the engine.")] = None,
    dtype: Annotated[str, typer.Option(help="How a new index stores descriptors: float16 or float32.")] = "float16",
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Remove the index first, for another model.")] = False,
    as_json: JsonOption = False,
) -> None:
    from dataclasses import asdict

    from rrid_edge.errors import printable
    from rrid_edge.files import walk_images
    from rrid_edge.gallery.naming import name_reader
    from rrid_edge.gallery.places import create_gallery, place_of, remove_gallery
    from rrid_edge.gallery.sync import IndexSettings, refuse_empty

    name_reader(pattern)
    walk_images(folder)
    place = place_of(folder, store)
    path, engine = open_model(model, None if rebuild else gallery_model(place), runtime, precision, threads)
    with engine:
        if rebuild:
            remove_gallery(place)
        with create_gallery(place, engine.spec, dtype=dtype, index_type=index_type, replicas=replicas) as gallery:
            start = time.perf_counter()
            report = run_index(folder, gallery, engine, IndexSettings(pattern, workers, batch))
            seconds = time.perf_counter() - start
            gallery.set_model(path.resolve())
            refuse_empty(folder, report)
    if as_json:
        print_json({"gallery": str(folder), "index": str(place), "seconds": round(seconds, 3), **asdict(report)})
        return
    embedded = report.added + report.changed
    rate = f", {embedded / seconds:.1f} images/s" if embedded else ""
    print(
        f"{printable(folder)}: {report.rows} crops ({report.added} added, {report.changed} changed, {report.removed} removed, "
        f"{report.unchanged} unchanged, {len(report.failed)} failed) in {seconds:.1f} s{rate}"
    )
