"""``rrid-edge gallery verify``, ``compact`` and ``copy``."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli import gallery_export as _gallery_export  # noqa: F401 - adds its command
from rrid_edge.cli import gallery_forget as _gallery_forget  # noqa: F401 - adds its commands
from rrid_edge.cli import gallery_list as _gallery_list  # noqa: F401 - adds its command
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, say, show
from rrid_edge.cli.gallery_app import FolderArgument, gallery_app
from rrid_edge.cli.options import GalleryOption, IndexTypeOption, ReplicasOption
from rrid_edge.cli.steps import say_if_exact
from rrid_edge.errors import CheckFailedError, UsageError, printable
from rrid_edge.stopping import going_on, kept_if_stopped

if TYPE_CHECKING:
    from rrid_edge.gallery.base import Verification


@gallery_app.command(
    "verify",
    epilog="Example: rrid-edge gallery verify demo/gallery",
    help="Check every stored descriptor against its checksum. If crops are damaged, print their paths and exit with 1.",
)
def verify(
    folder: FolderArgument,
    recall: Annotated[
        bool,
        typer.Option("--recall", help="Also measure match --fast (Milvus: ivf, hnsw, diskann): its recall at 10."),
    ] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.recall import RECALL_AT, RECALL_QUERIES, measure_recall
    from rrid_edge.gallery.opening import location_of, open_store

    with kept_if_stopped(lambda: "nothing was changed"), open_store(location_of(folder, location)) as gallery:
        verification = gallery.verify()
        share = None
        if recall:
            share, info = measure_recall(gallery), gallery.info()
            say_if_exact(info, "match --fast")
    queries = min(RECALL_QUERIES, verification.rows)
    if as_json:
        facts = {
            "rows": verification.rows,
            "damaged": [row.name for row in verification.damaged],
            "bounds_sound": verification.bounds_sound,
            "columns_sound": verification.columns_sound,
            "lost": verification.lost,
            "entries": verification.entries,
        }
        print_json(
            facts if share is None else facts | {"recall": {"value": share, "at": RECALL_AT, "queries": queries}}
        )
    else:
        _print_verification(verification)
        if share is not None:
            show(f"recall@{RECALL_AT} of match --fast: {share:.4f} over {queries} crops as queries")
    if not verification.sound:
        raise CheckFailedError(
            f"{printable(folder)}: {_damage(verification)}; repair this with: rrid-edge index FOLDER"
        )


def _print_verification(verification: Verification) -> None:
    for row in verification.damaged:
        show(f"damaged: {printable(row.name)}")
    bounds = "" if verification.bounds_sound else ", bounds of the two-pass search damaged"
    columns = "" if verification.columns_sound else ", columns of the search damaged"
    show(f"{verification.rows} rows, {len(verification.damaged)} damaged{bounds}{columns}")


def _damage(verification: Verification) -> str:
    problems = []
    if verification.damaged:
        problems.append(f"{len(verification.damaged)} stored descriptors are damaged (searches leave them out)")
    if not verification.bounds_sound:
        problems.append("the bounds of the two-pass search are damaged (a search may miss crops)")
    if not verification.columns_sound:
        problems.append("the columns of the search are damaged (searches read the catalogue instead)")
    if verification.lost:
        problems.append(f"the catalogue has lost {verification.lost} committed crops: its log is damaged")
    if verification.entries:
        problems.append(f"{verification.entries} entries of the catalogue are damaged (searches leave them out)")
    return " and ".join(problems)


@gallery_app.command(
    "compact", epilog="Example: rrid-edge gallery compact demo/gallery", help="Free the space of removed crops."
)
def compact(folder: FolderArgument, location: GalleryOption = None, as_json: JsonOption = False) -> None:
    from rrid_edge.gallery.opening import location_of, open_store

    stored = "all crops are stored; run the same command again"
    with kept_if_stopped(lambda: stored), open_store(location_of(folder, location), write=True) as gallery:
        freed = gallery.compact()
        info = gallery.info()
    if as_json:
        print_json({"freed": freed, "rows": info.rows})
        return
    show(f"{'compacted' if info.index_type else f'{freed} slots freed'}, {info.rows} crops kept")


@gallery_app.command(
    "copy",
    epilog="Example: rrid-edge gallery copy demo/gallery milvus+http://localhost:19530/crops",
    help="Copy an index between stores without embedding again. Crops that the destination already holds are kept, so "
    "an interrupted copy can be repeated. At the end every descriptor is checked.",
)
def copy(
    source: Annotated[str, typer.Argument(help="Indexed folder of crops, or Milvus address.")],
    destination: Annotated[
        str, typer.Argument(help="Folder of crops (its index is .rrid-edge in it), or Milvus address.")
    ],
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.audit import audit
    from rrid_edge.gallery.indexing.copied_sources import sources_in_copy, stays_local
    from rrid_edge.gallery.indexing.copying import copy_gallery
    from rrid_edge.gallery.indexing.undoing import undone_if_refused
    from rrid_edge.gallery.opening import create_store, location_of, model_path, model_text, open_store

    source_location, destination_location = location_of(source), location_of(destination)
    if source_location == destination_location:
        raise UsageError(f"{printable(source)}: source and destination are the same gallery; name two galleries")
    with undone_if_refused(destination_location), contextlib.ExitStack() as stack:
        stack.enter_context(going_on("run the same command again to go on"))
        stack.enter_context(kept_if_stopped(lambda: "no crop was copied"))
        source_gallery = stack.enter_context(open_store(source_location))
        info = source_gallery.info()
        target_gallery = stack.enter_context(
            create_store(destination_location, info.spec, dtype=info.dtype, index_type=index_type, replicas=replicas)
        )
        bar = stack.enter_context(ProgressBar("copying"))
        model = model_path(source_location, info.model)
        text = "" if model is None else model_text(destination_location, model)
        sources = sources_in_copy(source_gallery, target_gallery, source_location, destination_location)
        report = copy_gallery(source_gallery, target_gallery, model=text, sources=sources, progress=bar)
        asks_for_source = stays_local(source_gallery, target_gallery, sources)
    for old, new in sources.items():
        say(f"the source {printable(old)} is {printable(new)} in the copy, as index names it there")
    if asks_for_source:
        command = f"index FOLDER --gallery {printable(destination)} --source local"
        say(f"the crops keep the source local: {command} finds them")
    for place, command in ((source_location, "copy"), (destination_location, "copied from")):
        audit(place, command, rows=report.rows, source=printable(source), destination=printable(destination))
    if as_json:
        print_json({"source": source, "destination": destination, **asdict(report)})
    else:
        show(
            f"{printable(destination)}: {report.rows} crops ({report.copied} copied, {report.present} already present)"
        )
    if report.damaged:
        raise CheckFailedError(
            f"{printable(source)}: {len(report.damaged)} crops with damaged descriptors were not copied, for example "
            f"{printable(report.damaged[0])}; repair them with rrid-edge index FOLDER, and copy again"
        )
