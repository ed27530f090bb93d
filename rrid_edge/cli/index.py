"""``rrid-edge index``."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, say
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import (
    FollowLinksOption,
    GalleryOption,
    IndexTypeOption,
    ModelOption,
    PrecisionOption,
    ReplicasOption,
    RuntimeOption,
    ThreadsOption,
)
from rrid_edge.cli.steps import AskedRuntime, open_model, say_indexed
from rrid_edge.errors import CheckFailedError, OutputError, UsageError, printable
from rrid_edge.progress import reporter_here, step
from rrid_edge.stopping import going_on, kept_if_stopped

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.gallery.contract import GalleryStore
    from rrid_edge.gallery.indexing.settings import IndexSettings
    from rrid_edge.gallery.indexing.sync import IndexReport
    from rrid_edge.gallery.indexing.watch import WatchSettings
    from rrid_edge.gallery.opening import Location


@app.command(
    epilog="Example: rrid-edge index demo/gallery --model demo/models/rrid.onnx",
    help="Bring a gallery in step with its folder of crops. New and changed files are embedded, rows of deleted files "
    "are removed. With --watch, follow the folder until stopped (Ctrl-C).",
)
def index(
    folder: Annotated[Path, typer.Argument(help="Folder of crops, with its sub-folders.")],
    model: ModelOption = None,
    location: GalleryOption = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Read file names as auto, a preset (market1501, dukemtmc, cuhk03, rrid, folders ...), none, or a "
            "regular expression. A new one reads all names again. [default: the gallery's, or auto]"
        ),
    ] = None,
    time_from: Annotated[
        str | None,
        typer.Option(
            help="Take times from name, exif or mtime. [default: the gallery's, or name]",
            autocompletion=one_of("name exif mtime"),
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Compare the folder with rows of this source only. [default: local; in Milvus HOST:FOLDER]",
            show_default=False,
        ),
    ] = None,
    allow_removals: Annotated[
        bool,
        typer.Option(
            "--allow-removals",
            help="Remove rows also if a whole sub-folder or over a fifth of the files vanished, or"
            " if --rebuild cannot make them again.",
        ),
    ] = False,
    follow_links: FollowLinksOption = False,
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
    mode: Annotated[
        str | None,
        typer.Option(help="New index: permissions of its folder, such as 750 for a group. [default: 700]"),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Empty the index first, for another model. Forgotten pictures stay out."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the folder until stopped; needs the extra [watch].")
    ] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="With --watch, read files unchanged for this many seconds.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.crops.folder import find_images
    from rrid_edge.crops.naming import name_reader
    from rrid_edge.crops.times import check_time_source
    from rrid_edge.gallery.indexing.listening import import_watchfiles
    from rrid_edge.gallery.indexing.rebuilding import refuse_lossy_rebuild
    from rrid_edge.gallery.indexing.settings import IndexSettings
    from rrid_edge.gallery.indexing.undoing import undone_if_refused
    from rrid_edge.gallery.indexing.watch import WatchSettings
    from rrid_edge.gallery.opening import create_store, location_of, model_text, rebuild_store

    refuse_address(folder)
    name_reader(pattern or "auto")
    check_time_source(time_from or "name")
    find_images(folder)
    if watch:
        import_watchfiles()  # a line that says what is missing comes before those that say what is done
    permissions = _permissions(mode)
    target = location_of(folder, location)
    if rebuild and not allow_removals:
        refuse_lossy_rebuild(folder, target, source, follow_links=follow_links)
    with kept_if_stopped(lambda: "no crop was indexed"):
        remembered = _remembered_model(target, rebuild=rebuild)
        path, engine = open_model(model, remembered, AskedRuntime(runtime, precision, threads, measures=True))
    settings = IndexSettings(pattern, workers, batch, time_from, source, allow_removals, follow_links)
    opened = rebuild_store if rebuild else create_store
    how = "run it again without --rebuild to go on" if rebuild else "run the same command again to go on"
    with undone_if_refused(target), engine, going_on(how):
        with opened(
            target, engine.spec, dtype=dtype, index_type=index_type, replicas=replicas, mode=permissions
        ) as gallery:
            gallery.remember({"model": model_text(target, path)})
            if not watch:
                _index_once(folder, gallery, engine, settings, _Printer(folder, target, as_json))
        if watch:
            printer = _Printer(folder, target, as_json)
            watching = WatchSettings(settle, index=settings)
            _follow(folder, lambda: create_store(target, engine.spec), engine, watching, printer)


def refuse_address(folder: Path) -> None:
    """Refuse the address of a gallery where the folder of its crops is expected. It may hold a password.

    Raises:
        UsageError: it is one.
    """
    if re.match(r"milvus\+\w+:/", str(folder)) and not folder.exists():
        raise UsageError(
            "the address of a gallery is given; expected the folder of its crops, and the address as the gallery: "
            "rrid-edge index crops/ --gallery milvus+http://HOST:19530/COLLECTION"
        )


def _permissions(mode: str | None) -> int | None:
    """The permissions of ``--mode``.

    Raises:
        UsageError: they are not octal, or their owner could not use the folder.
    """
    if mode is None:
        return None
    if not re.fullmatch(r"0?7[0-7]{2}", mode):
        raise UsageError(
            f"permissions {mode!r} do not work: expected three octal digits, the first of them 7, such as 750",
            parameter="mode",
        )
    return int(mode, 8)


def _remembered_model(location: Location, *, rebuild: bool) -> Path | None:
    """The gallery's model, or None if it does not exist, or is damaged and will be rebuilt."""
    from rrid_edge.errors import GalleryError, GalleryUnavailableError
    from rrid_edge.gallery.opening import remembered_model

    try:
        return remembered_model(location)
    except GalleryUnavailableError:
        raise
    except GalleryError as error:
        if not rebuild:
            raise
        say(f"{error.message}; what it remembered is lost")
        return None


def _index_once(
    folder: Path, gallery: GalleryStore, engine: Engine, settings: IndexSettings, printer: _Printer
) -> None:
    """Index a folder and print the report.

    Raises:
        UsageError: the folder has no readable images.
        CheckFailedError: removals were refused, or expired crops could not be erased.
    """
    from rrid_edge.gallery.indexing.sync import index_folder, refuse_empty

    start = time.perf_counter()
    with ProgressBar("indexing") as bar, kept_if_stopped(lambda: "no crop was indexed"):
        report = index_folder(folder, gallery, engine, settings, progress=bar)
    seconds = time.perf_counter() - start
    say_indexed(report)
    _say_rows_that_stay(report)
    if not report.refused:
        refuse_empty(folder, report)
    printer.audit_expired(report)
    if printer.as_json:
        facts = {"gallery": str(folder), "index": str(printer.location), "seconds": round(seconds, 3)}
        print_json({**facts, **asdict(report)})
    else:
        _print_report(folder, report, seconds)
    if report.refused:
        raise CheckFailedError(report.refused, parameter="allow_removals")
    for line in report.erasure:
        say(f"left of expired crops: {line}")
    if report.erasure and not gallery.info().index_type:  # a server rewrites its files later
        raise CheckFailedError(f"expired crops are forgotten, but not erased everywhere: {'; '.join(report.erasure)}")


def _print_report(folder: Path, report: IndexReport, seconds: float) -> None:
    embedded = report.added + report.changed
    rate = f", {embedded / seconds:.1f} images/s" if embedded else ""
    print(
        f"{printable(folder)}: {report.rows} crops ({report.added} added, {report.changed} changed, {report.removed} "
        f"removed, {report.unchanged} unchanged, {len(report.failed)} failed) in {seconds:.1f} s{rate}"
    )


def _say_rows_that_stay(report: IndexReport) -> None:
    """Say on stderr what happened to rows and files besides adding, changing and removing."""
    if report.reread:
        say(f"the names of all crops were read again: {report.reread} rows changed")
    if report.unexamined:
        say(f"{report.unexamined} crops stay: their files or folders could not be examined")
    if report.forgotten:
        say(f"{report.forgotten} files stay out: their content was forgotten (gallery unforget lets it in again)")
    if report.expired:
        say(f"{len(report.expired)} crops were older than the gallery keeps, and are forgotten")


@dataclass(frozen=True)
class _Printer:
    """Prints one line per run on stdout, as JSON if set, and warnings on stderr."""

    folder: Path
    location: Location
    as_json: bool

    def audit_expired(self, report: IndexReport) -> None:
        """Note expired crops in the audit log."""
        from rrid_edge.gallery.indexing.audit import audit

        if report.expired:
            audit(self.location, "expired", ids=report.expired, rows=len(report.expired), left=len(report.erasure))

    def indexed(self, report: IndexReport) -> None:
        """Print a run."""
        try:
            self.audit_expired(report)
        except OutputError as error:  # the watch goes on
            say(error.message)
        if self.as_json:
            print_json({"gallery": str(self.folder), **asdict(report)}, indent=None)
            return
        counts = (
            f"{report.added} added, {report.changed} changed, {report.removed} removed, {len(report.failed)} failed"
        )
        counts += f", {len(report.expired)} expired" if report.expired else ""
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
    reporter = reporter_here()
    if reporter is not None:
        reporter.counts_only = True  # a folder that nothing happens in needs no lines
    with step("indexing") as indexing:
        settings = replace(settings, progress=indexing)
        watch_folder(folder, open_store, engine, settings, stop=stop, listener=printer)
    say("stopped; indexed crops are committed")
