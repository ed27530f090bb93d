"""``rrid-edge embed-many``."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.cli.options import (
    IndexTypeOption,
    ModelOption,
    PatternOption,
    PrecisionOption,
    ReplicasOption,
    RuntimeOption,
    ThreadsOption,
)
from rrid_edge.errors import UsageError, printable
from rrid_edge.stopping import going_on, kept_if_stopped

if TYPE_CHECKING:
    from rrid_edge.gallery.bulk.inputs import CropInput
    from rrid_edge.gallery.bulk.on_ray import Cluster
    from rrid_edge.gallery.bulk.records import BulkReport, BulkSettings
    from rrid_edge.gallery.contract import GalleryStore
    from rrid_edge.gallery.opening import Location, StoreOptions
    from rrid_edge.model.spec import ModelSpec


@app.command(
    "embed-many",
    epilog="Example: rrid-edge embed-many --input crops.parquet --gallery milvus+http://localhost:19530/crops",
    help="Embed very many crops into a gallery on a Ray cluster. Crops that the gallery has are not embedded again, so "
    "a run that was stopped continues. Rows are never removed.",
)
def embed_many(
    input_: Annotated[
        str,
        typer.Option("--input", help="Read a .parquet file, a folder of them, a folder of crops, or s3://BUCKET/..."),
    ],
    gallery: Annotated[
        str, typer.Option("--gallery", help="Write this index: milvus+http://HOST:19530/COLLECTION or a folder.")
    ],
    address: Annotated[
        str | None,
        typer.Option(help="Use this Ray cluster, such as ray://HEAD:10001. [default: RAY_ADDRESS, or this machine]"),
    ] = None,
    no_ray: Annotated[bool, typer.Option("--no-ray", help="Embed in this process, as index does.")] = False,
    model: ModelOption = None,
    root: Annotated[
        str | None,
        typer.Option(help="Find the files of a table's column path here. [default: the table's folder]"),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name the source of the rows. [default: as index; else the input's address]")
    ] = None,
    pattern: PatternOption = None,
    engines: Annotated[
        int | None, typer.Option(min=1, help="Run this many engines. [default: one per GPU, or one per machine]")
    ] = None,
    cpus_per_engine: Annotated[
        float, typer.Option(min=0.01, help="Reserve CPUs per engine in Ray; leave some for reading.")
    ] = 0.5,
    gpus_per_engine: Annotated[
        float | None, typer.Option(min=0, help="Reserve GPUs per engine. [default: 1 if the cluster has GPUs]")
    ] = None,
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Compute this many images per call. [default: measured]")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Store a new index as float16 or float32.")] = "float16",
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.crops.naming import name_reader
    from rrid_edge.gallery.bulk.inputs import open_input
    from rrid_edge.gallery.bulk.records import BulkSettings
    from rrid_edge.gallery.indexing.undoing import undone_if_refused
    from rrid_edge.gallery.opening import location_of

    if not no_ray:
        require("rrid_edge.gallery.bulk.on_ray", "ray", "embedding on a cluster")
    elif address is not None:
        raise UsageError("an address and no Ray exclude each other: give one", parameter=("address", "no_ray"))
    name_reader(pattern or "auto")
    crops = open_input(input_, root)
    _say_left_out(crops)
    run = _Run(location_of(input_, gallery), crops, BulkSettings(source, pattern, batch))
    opening = _Opening(model, runtime, precision, threads)
    options: StoreOptions = {"dtype": dtype, "index_type": index_type, "replicas": replicas}
    start = time.perf_counter()
    with undone_if_refused(run.location):
        with going_on("run the same command again to go on"), kept_if_stopped(lambda: "no crop was embedded"):
            if no_ray:
                report = run.here(opening, options)
            else:
                from rrid_edge.gallery.bulk.on_ray import Cluster

                report = run.on_ray(opening, options, Cluster(address, engines, cpus_per_engine, gpus_per_engine))
        _print_report(gallery, report, time.perf_counter() - start, as_json=as_json)
        if not report.rows:
            raise _nothing_read(crops, report.failures)


def _nothing_read(crops: CropInput, failures: int) -> UsageError:
    """The error if no crop could be read. A table of paths alone may belong to another folder."""
    if crops.tables and "image" not in crops.columns:
        return UsageError(
            f"{printable(crops.text)}: none of its {failures} crops could be read below {printable(crops.root)}; "
            "expected the folder that the paths of the table begin in",
            parameter="root",
        )
    from rrid_edge.crops.formats import FORMATS

    return UsageError(
        f"{printable(crops.text)}: none of its {failures} crops could be read; expected crops: {FORMATS}",
        parameter="input",
    )


@dataclass(frozen=True)
class _Opening:
    """How to open the model: the options of the command."""

    model: Path | None
    runtime: str
    precision: str | None
    threads: int


class _Follower(ProgressBar):
    """Draws a bar and says which crops failed."""

    def failed(self, name: str, reason: str) -> None:
        """Say a crop that failed."""
        say(f"left out {printable(name)}: {reason}")


@dataclass(frozen=True)
class _Run:
    """One run of the command."""

    location: Location
    crops: CropInput
    settings: BulkSettings

    def here(self, opening: _Opening, options: StoreOptions) -> BulkReport:
        """Embed in this process."""
        from rrid_edge.cli.steps import AskedRuntime, open_model
        from rrid_edge.gallery.bulk.run import embed_many
        from rrid_edge.gallery.opening import remembered_model

        remembered = remembered_model(self.location)
        asked = AskedRuntime(opening.runtime, opening.precision, opening.threads, measures=True)
        path, engine = open_model(opening.model, remembered, asked)
        with engine, self._opened(path, engine.spec, options) as store, _Follower("embedding") as follower:
            return embed_many(self.crops, store, engine, self.settings, follower)

    def on_ray(self, opening: _Opening, options: StoreOptions, cluster: Cluster) -> BulkReport:
        """Embed on a cluster. This machine needs no runtime of the model."""
        from rrid_edge.engines import open_engine
        from rrid_edge.gallery.bulk.on_ray import embed_many_on_ray
        from rrid_edge.gallery.bulk.shipping import ShippedModel
        from rrid_edge.gallery.opening import remembered_model
        from rrid_edge.model.choice import choose_model
        from rrid_edge.model.reading import read_any_spec

        path, why = choose_model(opening.model, remembered_model(self.location))
        say(f"model {printable(path)} ({why})")
        open_file = partial(open_engine, runtime=opening.runtime, precision=opening.precision, threads=opening.threads)
        shipped = ShippedModel.of(path, open_file)
        with self._opened(path, read_any_spec(path), options) as store, _Follower("embedding") as follower:
            return embed_many_on_ray(
                self.crops, (self.location, store), shipped, self.settings, cluster, listener=follower
            )

    def _opened(self, model: Path, spec: ModelSpec, options: StoreOptions) -> GalleryStore:
        from rrid_edge.gallery.opening import create_store, model_text

        store = create_store(self.location, spec, **options)
        store.remember({"model": model_text(self.location, model)})
        return store


def _say_left_out(crops: CropInput) -> None:
    from rrid_edge.crops.folder import describe_endings

    for name, reason in crops.left_out:
        say(f"left out {printable(name)}: {reason}")
    if crops.endings:
        say(describe_endings(crops.endings))


def _print_report(gallery: str, report: BulkReport, seconds: float, *, as_json: bool) -> None:
    from rrid_edge.gallery.milvus.address import without_secrets

    where = without_secrets(gallery)
    if report.forgotten:
        say(f"{report.forgotten} crops stay out: their content was forgotten (gallery unforget lets it in again)")
    if report.expired:
        say(f"{report.expired} crops stay out: they are older than the gallery keeps")
    if as_json:
        print_json({"gallery": where, "seconds": round(seconds, 3), **asdict(report)})
        return
    embedded = report.added + report.changed
    rate = f", {embedded / seconds:.1f} images/s" if embedded else ""
    rate += f" on {report.engines} engines" if report.engines else ""
    print(
        f"{printable(where)}: {report.rows} crops ({report.added} added, {report.changed} changed, {report.unchanged} "
        f"unchanged, {report.failures} failed) in {seconds:.1f} s{rate}"
    )
