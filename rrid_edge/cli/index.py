"""``rrid-edge index``."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
    from rrid_edge.gallery.contract import GalleryStore
    from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings
    from rrid_edge.gallery.indexing.watch import WatchSettings


@app.command(
    epilog="Example: rrid-edge index demo/gallery --model demo/models/rrid.onnx",
    help="Bring a gallery in step with its folder of crops. New and changed files are embedded, rows of deleted files "
    "are removed. With --watch, follow the folder until stopped (Ctrl-C).",
)
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of crops, with its sub-folders.")],
    model: ModelOption = None,
    location: GalleryOption = None,
    pattern: PatternOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Decode with this many workers. [default: until the engine is busy]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Compute this many images per call. [default: measured]")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Store a new index as float16 or float32.")] = "float16",
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Remove the index first, for example for another model.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the folder until stopped; needs the extra [watch].")
    ] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="With --watch, read files unchanged for this many seconds.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.crops.folder import walk_images
    from rrid_edge.crops.naming import name_reader
    from rrid_edge.gallery.indexing.sync import IndexSettings
    from rrid_edge.gallery.indexing.watch import WatchSettings
    from rrid_edge.gallery.opening import create_store, location_of, remembered_model, remove_store

    name_reader(pattern)
    walk_images(folder)
    target = location_of(folder, location)
    path, engine = open_model(model, None if rebuild else remembered_model(target), runtime, precision, threads)
    settings = IndexSettings(pattern, workers, batch)
    with engine:
        if rebuild:
            remove_store(target)
        with create_store(target, engine.spec, dtype=dtype, index_type=index_type, replicas=replicas) as gallery:
            gallery.set_model(path.resolve())
            if not watch:
                _index_once(folder, gallery, engine, settings, str(target) if as_json else None)
        if watch:
            watching = WatchSettings(settle, index=settings)
            _follow(folder, lambda: create_store(target, engine.spec), engine, watching, _Printer(folder, as_json))


def _index_once(
    folder: Path, gallery: GalleryStore, engine: Engine, settings: IndexSettings, json_location: str | None
) -> None:
    """Index a folder and print the report: as JSON with this location, or as text if it is None.

    Raises:
        UsageError: the folder has no readable images.
    """
    from rrid_edge.gallery.indexing.sync import index_folder, refuse_empty

    start = time.perf_counter()
    with ProgressBar("indexing") as bar:
        report = index_folder(folder, gallery, engine, settings, progress=bar)
    seconds = time.perf_counter() - start
    say_indexed(report)
    refuse_empty(folder, report)
    if json_location is not None:
        facts = {"gallery": str(folder), "index": json_location, "seconds": round(seconds, 3)}
        print_json({**facts, **asdict(report)})
        return
    embedded = report.added + report.changed
    rate = f", {embedded / seconds:.1f} images/s" if embedded else ""
    print(
        f"{printable(folder)}: {report.rows} crops ({report.added} added, {report.changed} changed, {report.removed} "
        f"removed, {report.unchanged} unchanged, {len(report.failed)} failed) in {seconds:.1f} s{rate}"
    )


@dataclass(frozen=True)
class _Printer:
    """Prints one line per run on stdout, as JSON if set, and warnings on stderr."""

    folder: Path
    as_json: bool

    def indexed(self, report: IndexReport) -> None:
        """Print a run."""
        if self.as_json:
            print(json.dumps({"gallery": str(self.folder), **asdict(report)}, ensure_ascii=False), flush=True)
            return
        counts = (
            f"{report.added} added, {report.changed} changed, {report.removed} removed, {len(report.failed)} failed"
        )
        print(f"{time.strftime('%H:%M:%S')}  {report.rows} crops ({counts})", flush=True)

    def warn(self, message: str) -> None:
        """Say a warning."""
        say(message)


def _follow(
    folder: Path, open_store: Callable[[], GalleryStore], engine: Engine, settings: WatchSettings, printer: _Printer
) -> None:
    """Follow a folder until SIGINT or SIGTERM."""
    from rrid_edge.gallery.indexing.watch import watch_folder

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    say(f"following {printable(folder)}; Ctrl-C ends it")
    watch_folder(folder, open_store, engine, settings, stop=stop, listener=printer)
    say("stopped; indexed crops are committed")
