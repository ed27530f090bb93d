"""``rrid-edge gallery``: inspecting and maintaining an index."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, say
from rrid_edge.cli.options import GalleryOption, IndexTypeOption, ReplicasOption
from rrid_edge.errors import CheckFailedError, UsageError, printable

if TYPE_CHECKING:
    from rrid_edge.gallery.base import Verification

gallery_app = typer.Typer(help="Inspect and maintain an index.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(gallery_app, name="gallery")

FolderArgument = Annotated[str, typer.Argument(help="Indexed folder of crops, or milvus+http://HOST:19530/COLLECTION.")]


@gallery_app.command("list", epilog="Example: rrid-edge gallery list demo/gallery", help="List the crops of an index.")
def list_crops(folder: FolderArgument, location: GalleryOption = None, as_json: JsonOption = False) -> None:
    from rrid_edge.gallery.opening import location_of, open_store

    with open_store(location_of(folder, location)) as gallery:
        rows, info = gallery.rows(), gallery.info()
    if as_json:
        print_json({"info": asdict(info), "rows": [asdict(row) for row in rows]})
        return
    for row in rows:
        camera = "-" if row.camera is None else row.camera
        print(f"{row.person or '-':>8}  {camera:>4}  {printable(row.path)}")
    kind = f"index {info.index_type}" if info.index_type else f"{info.slots - info.rows} dead slots"
    say(f"{info.rows} crops, {info.dtype}, model {info.spec.fingerprint[:12]}, {kind}")


@gallery_app.command(
    "verify",
    epilog="Example: rrid-edge gallery verify demo/gallery",
    help="Check every stored descriptor against its checksum. If crops are damaged, print their paths and exit with 1.",
)
def verify(
    folder: FolderArgument,
    recall: Annotated[
        bool, typer.Option("--recall", help="Also measure the recall of match --fast in the first ten.")
    ] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.recall import RECALL_AT, RECALL_QUERIES, measure_recall
    from rrid_edge.gallery.opening import location_of, open_store

    with open_store(location_of(folder, location)) as gallery:
        verification = gallery.verify()
        share = measure_recall(gallery) if recall else None
    queries = min(RECALL_QUERIES, verification.rows)
    if as_json:
        facts = {
            "rows": verification.rows,
            "damaged": [row.path for row in verification.damaged],
            "bounds_sound": verification.bounds_sound,
            "lost": verification.lost,
        }
        print_json(
            facts if share is None else facts | {"recall": {"value": share, "at": RECALL_AT, "queries": queries}}
        )
    else:
        _print_verification(verification)
        if share is not None:
            print(f"recall@{RECALL_AT} of --fast: {share:.4f} over {queries} crops as queries")
    if not verification.sound:
        raise CheckFailedError(
            f"{printable(folder)}: {_damage(verification)}; repair this with: rrid-edge index FOLDER"
        )


def _print_verification(verification: Verification) -> None:
    for row in verification.damaged:
        print(f"damaged: {printable(row.path)}")
    bounds = "" if verification.bounds_sound else ", bounds of the two-pass search damaged"
    print(f"{verification.rows} rows, {len(verification.damaged)} damaged{bounds}")


def _damage(verification: Verification) -> str:
    problems = []
    if verification.damaged:
        problems.append(f"{len(verification.damaged)} stored descriptors are damaged (searches leave them out)")
    if not verification.bounds_sound:
        problems.append("the bounds of the two-pass search are damaged (a search may miss crops)")
    if verification.lost:
        problems.append(f"the catalogue has lost {verification.lost} committed crops: its log is damaged")
    return " and ".join(problems)


@gallery_app.command(
    "compact", epilog="Example: rrid-edge gallery compact demo/gallery", help="Free the space of removed crops."
)
def compact(folder: FolderArgument, location: GalleryOption = None, as_json: JsonOption = False) -> None:
    from rrid_edge.gallery.opening import location_of, open_store

    with open_store(location_of(folder, location), write=True) as gallery:
        freed = gallery.compact()
        info = gallery.info()
    if as_json:
        print_json({"freed": freed, "rows": info.rows})
        return
    print(f"{'compacted' if info.index_type else f'{freed} slots freed'}, {info.rows} crops kept")


@gallery_app.command(
    "forget",
    epilog="Example: rrid-edge gallery forget demo/gallery --person 0082",
    help="Remove crops from the index and overwrite their descriptors on the disk. The image files stay: unless you "
    "delete them, the next index adds them again.",
)
def forget(
    folder: FolderArgument,
    paths: Annotated[list[str] | None, typer.Argument(help="Crops, as gallery list names them.")] = None,
    person: Annotated[str | None, typer.Option(help="Forget all crops of this person.")] = None,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.forgetting import forget_crops
    from rrid_edge.gallery.opening import location_of, open_store

    with open_store(location_of(folder, location), write=True) as gallery:
        count = forget_crops(gallery, paths or (), person)
        erasure = gallery.erasure
    if as_json:
        print_json({"forgotten": count, "descriptors": erasure})
        return
    print(f"{count} crops forgotten, {erasure}")


@gallery_app.command(
    "export",
    epilog="Example: rrid-edge gallery export demo/gallery descriptors.npz",
    help="Write paths, cameras, persons and descriptors into a NumPy file.",
)
def export(
    folder: FolderArgument,
    output: Annotated[Path, typer.Argument(help="NumPy file to write (.npz).")],
    location: GalleryOption = None,
) -> None:
    import numpy as np

    from rrid_edge.files import atomic_output
    from rrid_edge.gallery.opening import location_of, open_store

    if output.suffix != ".npz":
        raise UsageError(f"{printable(output)}: the file name must end in .npz; rename it, for example descriptors.npz")
    with open_store(location_of(folder, location)) as gallery:
        rows = gallery.rows()
        vectors = gallery.vectors(rows)
    with atomic_output(output) as partial:
        np.savez_compressed(
            partial,
            descriptors=vectors,
            paths=np.array([printable(row.path) for row in rows], np.str_),
            cameras=np.array([-1 if row.camera is None else row.camera for row in rows], np.int64),
            persons=np.array([row.person or "" for row in rows], np.str_),
        )
    print(f"{printable(output)}: {len(rows)} descriptors of {vectors.shape[1]} values")


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
    from rrid_edge.gallery.indexing.copying import copy_gallery
    from rrid_edge.gallery.opening import create_store, location_of, open_store

    source_location, destination_location = location_of(source), location_of(destination)
    if source_location == destination_location:
        raise UsageError(f"{printable(source)}: source and destination are the same gallery; name two galleries")
    with contextlib.ExitStack() as stack:
        source_gallery = stack.enter_context(open_store(source_location))
        info = source_gallery.info()
        target_gallery = stack.enter_context(
            create_store(destination_location, info.spec, dtype=info.dtype, index_type=index_type, replicas=replicas)
        )
        bar = stack.enter_context(ProgressBar("copying"))
        report = copy_gallery(source_gallery, target_gallery, progress=bar)
    if as_json:
        print_json({"source": source, "destination": destination, **asdict(report)})
    else:
        print(
            f"{printable(destination)}: {report.rows} crops ({report.copied} copied, {report.present} already present)"
        )
    if report.damaged:
        raise CheckFailedError(
            f"{printable(source)}: {len(report.damaged)} crops with damaged descriptors were not copied, for example "
            f"{printable(report.damaged[0])}; repair them with rrid-edge index FOLDER, and copy again"
        )
