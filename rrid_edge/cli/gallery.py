"""``rrid-edge gallery``: looking into an index and keeping it well."""

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

gallery_app = typer.Typer(help="Look into an index and keep it well.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(gallery_app, name="gallery")

FolderArgument = Annotated[
    str, typer.Argument(help="The indexed folder of crops, or milvus+http://HOST:19530/COLLECTION.")
]


@gallery_app.command("list", epilog="Example: rrid-edge gallery list demo/gallery", help="List the crops of an index.")
def list_crops(folder: FolderArgument, location: GalleryOption = None, as_json: JsonOption = False) -> None:
    from rrid_edge.gallery.opening import location_of, open_gallery

    with open_gallery(location_of(folder, location)) as gallery:
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
    help="Check every stored descriptor against its checksum; exit 1 and names where one is damaged.",
)
def verify(
    folder: FolderArgument,
    recall: Annotated[
        bool, typer.Option("--recall", help="Also measure how many of the first ten match --fast finds.")
    ] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.recall import RECALL_AT, RECALL_QUERIES, measure_recall
    from rrid_edge.gallery.opening import location_of, open_gallery

    with open_gallery(location_of(folder, location)) as gallery:
        found = gallery.verify()
        share = measure_recall(gallery) if recall else None
    facts = {
        "rows": found.rows,
        "damaged": [row.path for row in found.damaged],
        "bounds_sound": found.bounds_sound,
        "lost": found.lost,
    }
    if share is not None:
        facts["recall"] = {"value": share, "at": RECALL_AT, "queries": min(RECALL_QUERIES, found.rows)}
    if as_json:
        print_json(facts)
    else:
        for row in found.damaged:
            print(f"damaged: {printable(row.path)}")
        bounds = "" if found.bounds_sound else ", the search's bounds damaged"
        print(f"{found.rows} rows, {len(found.damaged)} damaged{bounds}")
        if share is not None:
            print(f"recall@{RECALL_AT} of --fast: {share:.4f} over {min(RECALL_QUERIES, found.rows)} crops as queries")
    if not found.sound:
        raise CheckFailedError(f"{printable(folder)}: {_what_is_wrong(found)}; mend this with: rrid-edge index FOLDER")


def _what_is_wrong(found: Verification) -> str:
    words = []
    if found.damaged:
        words.append(f"{len(found.damaged)} stored descriptors are damaged (not served)")
    if not found.bounds_sound:
        words.append("the bounds of the two-pass search are damaged (a search may miss crops)")
    if found.lost:
        words.append(f"the catalogue has lost {found.lost} crops that were committed: its log is damaged")
    return " and ".join(words)


@gallery_app.command(
    "compact", epilog="Example: rrid-edge gallery compact demo/gallery", help="Free the room of crops that are gone."
)
def compact(folder: FolderArgument, location: GalleryOption = None, as_json: JsonOption = False) -> None:
    from rrid_edge.gallery.opening import location_of, open_gallery

    with open_gallery(location_of(folder, location), write=True) as gallery:
        freed = gallery.compact()
        info = gallery.info()
    if as_json:
        print_json({"freed": freed, "rows": info.rows})
        return
    print(f"{'compacted' if info.index_type else f'{freed} slots freed'}, {info.rows} crops kept")


@gallery_app.command(
    "forget",
    epilog="Example: rrid-edge gallery forget demo/gallery --person 0082",
    help="Remove crops from the index and overwrite their descriptors on the disk. The image files stay: the next index "
    "takes them in again unless they are removed.",
)
def forget(
    folder: FolderArgument,
    paths: Annotated[list[str] | None, typer.Argument(help="Crops, as gallery list names them.")] = None,
    person: Annotated[str | None, typer.Option(help="All crops of this person.")] = None,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.opening import location_of, open_gallery

    if not paths and person is None:
        raise UsageError("nothing to forget: name crops, or give --person ID")
    with open_gallery(location_of(folder, location), write=True) as gallery:
        rows = gallery.rows()
        unknown = set(paths or ()) - {row.path for row in rows}
        if unknown:
            raise UsageError(
                f"{printable(min(unknown))}: not in the index ({len(unknown)} in all); see rrid-edge gallery list"
            )
        chosen = [row.path for row in rows if row.path in set(paths or ()) or (person and row.person == person)]
        if not chosen:
            raise UsageError(f"person {person!r} is not in the index; see rrid-edge gallery list")
        count = gallery.remove(chosen, overwrite=True)
        done = gallery.forgetting
    if as_json:
        print_json({"forgotten": count, "descriptors": done})
        return
    print(f"{count} crops forgotten, {done}")


@gallery_app.command(
    "export",
    epilog="Example: rrid-edge gallery export demo/gallery descriptors.npz",
    help="Write paths, cameras, persons and descriptors into a NumPy file.",
)
def export(
    folder: FolderArgument,
    output: Annotated[Path, typer.Argument(help="File to write (.npz).")],
    location: GalleryOption = None,
) -> None:
    import numpy as np

    from rrid_edge.files import atomic_output
    from rrid_edge.gallery.opening import location_of, open_gallery

    if output.suffix != ".npz":
        raise UsageError(f"{printable(output)}: expected a name that ends in .npz")
    with open_gallery(location_of(folder, location)) as gallery:
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
    help="Copy an index between stores without embedding again. Safe to repeat: what is there already stays. At the end "
    "the copy is counted and every descriptor checked.",
)
def copy(
    source: Annotated[str, typer.Argument(help="Indexed folder of crops, or address.")],
    destination: Annotated[
        str, typer.Argument(help="Folder of crops (the index goes to .rrid-edge in it), or address.")
    ],
    index_type: IndexTypeOption = "",
    replicas: ReplicasOption = 0,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.copying import copy_gallery
    from rrid_edge.gallery.opening import create_gallery, location_of, open_gallery

    here, there = location_of(source), location_of(destination)
    if here == there:
        raise UsageError(f"{printable(source)}: source and destination are the same gallery; name two")
    with contextlib.ExitStack() as stack:
        gallery = stack.enter_context(open_gallery(here))
        own = gallery.info()
        target = stack.enter_context(
            create_gallery(there, own.spec, dtype=own.dtype, index_type=index_type, replicas=replicas)
        )
        report = copy_gallery(gallery, target, progress=stack.enter_context(ProgressBar("copying")))
    if as_json:
        print_json({"source": source, "destination": destination, **asdict(report)})
    else:
        print(f"{printable(destination)}: {report.rows} crops ({report.copied} copied, {report.present} there already)")
    if report.damaged:
        raise CheckFailedError(
            f"{printable(source)}: {len(report.damaged)} crops with damaged descriptors were not copied, "
            f"{printable(report.damaged[0])} among them; mend them with rrid-edge index FOLDER, and copy again"
        )
