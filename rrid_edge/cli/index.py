"""``rrid-edge index``."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, say
from rrid_edge.cli.options import (
    GalleryOption,
    IndexTypeOption,
    ModelOption,
    PatternOption,
    PrecisionOption,
    ReplicasOption,
    RuntimeOption,
    ThreadsOption,
)
from rrid_edge.cli.steps import open_model, say_indexed
from rrid_edge.errors import printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.base import Gallery
    from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings


@app.command(
    epilog="Example: rrid-edge index demo/gallery --model demo/models/rrid.onnx",
    help="Index a folder of crops, or bring its index in step: what is new or changed is embedded, what is gone goes. "
    "With --watch it goes on following the folder until it is stopped (Ctrl-C).",
)
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of crops, searched through.")],
    model: ModelOption = None,
    location: GalleryOption = None,
    pattern: PatternOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Decoding threads, or processes; as many as keep the engine busy if left out."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a call of the engine.")] = None,
    dtype: Annotated[str, typer.Option(help="How a new index stores descriptors: float16 or float32.")] = "float16",
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Remove the index first, for another model.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the folder until stopped; needs the extra [watch].")
    ] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="--watch: seconds for which a file must stay unchanged before it is taken.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.crops.folder import walk_images
    from rrid_edge.crops.naming import name_reader
    from rrid_edge.gallery.indexing.sync import IndexSettings, index_folder, refuse_empty
    from rrid_edge.gallery.opening import create_gallery, location_of, remembered_model, remove_gallery

    name_reader(pattern)
    walk_images(folder)
    where = location_of(folder, location)
    path, engine = open_model(model, None if rebuild else remembered_model(where), runtime, precision, threads)
    with engine:
        if rebuild:
            remove_gallery(where)
        settings = IndexSettings(pattern, workers, batch)
        with create_gallery(where, engine.spec, dtype=dtype, index_type=index_type, replicas=replicas) as gallery:
            gallery.set_model(path.resolve())
            if not watch:
                start = time.perf_counter()
                with ProgressBar("indexing") as bar:
                    report = index_folder(folder, gallery, engine, settings, progress=bar)
                seconds = time.perf_counter() - start
                say_indexed(report)
                refuse_empty(folder, report)
        if watch:
            _follow(folder, lambda: create_gallery(where, engine.spec), engine, settings, settle, as_json=as_json)
            return
    if as_json:
        print_json({"gallery": str(folder), "index": str(where), "seconds": round(seconds, 3), **asdict(report)})
        return
    embedded = report.added + report.changed
    rate = f", {embedded / seconds:.1f} images/s" if embedded else ""
    print(
        f"{printable(folder)}: {report.rows} crops ({report.added} added, {report.changed} changed, {report.removed} removed, "
        f"{report.unchanged} unchanged, {len(report.failed)} failed) in {seconds:.1f} s{rate}"
    )


def _follow(
    folder: Path,
    open_gallery: Callable[[], Gallery],
    engine: Engine,
    settings: IndexSettings,
    settle_s: float,
    *,
    as_json: bool,
) -> None:
    """Follow a folder until a signal comes; one line on stdout (with ``--json``, one JSON object a line) for every step."""
    from rrid_edge.gallery.indexing.watch import WatchSettings, watch_folder

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())

    def tell(report: IndexReport) -> None:
        if as_json:
            print(json.dumps({"gallery": str(folder), **asdict(report)}, ensure_ascii=False), flush=True)
            return
        counts = (
            f"{report.added} added, {report.changed} changed, {report.removed} removed, {len(report.failed)} failed"
        )
        print(f"{time.strftime('%H:%M:%S')}  {report.rows} crops ({counts})", flush=True)

    say(f"following {printable(folder)}; Ctrl-C ends it")
    watch_folder(folder, open_gallery, engine, settings, WatchSettings(settle_s), stop=stop, report=tell, complain=say)
    say("stopped; what was indexed is committed")
