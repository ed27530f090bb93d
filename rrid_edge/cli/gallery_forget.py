"""``rrid-edge gallery forget``, ``unforget`` and ``retention``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.common import JsonOption, print_json, say, show
from rrid_edge.cli.gallery_app import FolderArgument, gallery_app
from rrid_edge.cli.options import GalleryOption
from rrid_edge.errors import CheckFailedError, ImageError, UsageError, printable
from rrid_edge.stopping import going_on, kept_if_stopped

if TYPE_CHECKING:
    from rrid_edge.gallery.base import GalleryInfo
    from rrid_edge.gallery.indexing.forgetting import Forgetting
    from rrid_edge.gallery.opening import Location


@gallery_app.command(
    "forget",
    epilog="Example: rrid-edge gallery forget demo/gallery --person 0082 --dry-run",
    help="Erase crops from the index and keep their content out of it. With several of --person, "
    "--camera, --source and --before, crops must meet all of them.",
)
def forget(
    folder: FolderArgument,
    paths: Annotated[list[str] | None, typer.Argument(help="Crops, as gallery list names them.")] = None,
    ids: Annotated[list[int] | None, typer.Option("--id", help="Forget the crop of this id; can be repeated.")] = None,
    person: Annotated[str | None, typer.Option(help="Forget the crops of this person.")] = None,
    camera: Annotated[str | None, typer.Option(help="Forget the crops of this camera.")] = None,
    source: Annotated[str | None, typer.Option(help="Forget the crops of this source.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Forget crops older than this: 30d, 2h, or a time such as 2026-11-25.")
    ] = None,
    delete_files: Annotated[bool, typer.Option("--delete-files", help="Delete the image files too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; list what would be forgotten.")] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.audit import audit
    from rrid_edge.gallery.indexing.facts import default_source
    from rrid_edge.gallery.indexing.forgetting import ForgetSelection, forget_crops
    from rrid_edge.gallery.opening import location_of, open_store

    target = location_of(folder, location)
    crops = _crops_folder(folder, target) if delete_files else None
    limit = None if before is None else _limit(before)
    # `gallery list` names a crop without a file by its id: #12.
    numbers = [int(path[1:]) for path in paths or () if re.fullmatch(r"#\d{1,19}", path)]
    names = [path for path in paths or () if not re.fullmatch(r"#\d{1,19}", path)]
    selection = ForgetSelection(tuple(names), (*(ids or ()), *numbers), person, camera, source, limit)
    kept = "run the same command again to go on"
    with (
        going_on(kept),
        kept_if_stopped(lambda: "no crop was removed"),
        open_store(target, write=not dry_run) as gallery,
    ):
        own = None if crops is None else source or default_source(gallery.info(), crops)
        result = forget_crops(gallery, selection, delete_from=crops, folder_source=own, dry_run=dry_run)
    if not dry_run:
        rows, deleted, left = len(result.rows), result.deleted, len(result.left)
        audit(target, "forget", ids=result.ids, rows=rows, files_deleted=deleted, left=left)
    _print_forgotten(result, dry_run=dry_run, delete_files=delete_files, as_json=as_json)


def _crops_folder(folder: str, target: Location) -> Path:
    """The folder that holds the image files.

    Raises:
        UsageError: the argument is an address, or no folder of crops.
    """
    from rrid_edge.gallery.opening import INDEX_FOLDER, parse_location

    crops = parse_location(folder)
    if isinstance(crops, Path) and crops == target:
        crops = crops.parent if crops.name == INDEX_FOLDER else crops
    if not isinstance(crops, Path) or not crops.is_dir():
        raise UsageError(
            f"{printable(folder)}: this is no folder of crops, so image files cannot be deleted; give the folder of "
            "crops, and the index with --gallery"
        )
    return crops


def _limit(before: str) -> int:
    """The time of ``--before`` in UTC microseconds.

    Raises:
        UsageError: it is no time.
    """
    import time

    from rrid_edge.crops.times import parse_bound

    bound = parse_bound(before, time.time_ns() // 1000)
    if bound.time is None:
        raise UsageError(
            f"{before!r} is no time: expected a duration before now such as 30d, or a time such as 2026-11-25",
            parameter="before",
        )
    return bound.time


def _print_forgotten(result: Forgetting, *, dry_run: bool, delete_files: bool, as_json: bool) -> None:
    """Print what was forgotten, and what is left where.

    Raises:
        CheckFailedError: something is left that was to be erased or deleted.
    """
    named = sum(row.path is not None for row in result.rows)
    if as_json:
        print_json(
            {
                "forgotten": 0 if dry_run else len(result.rows),
                "dry_run": dry_run,
                "ids": result.ids,
                "paths": [row.path for row in result.rows],
                "files_deleted": result.deleted,
                "files_left": result.files_left,
                "left": result.left,
                "same_content": result.same,
            }
        )
    elif dry_run:
        for row in result.rows:
            show(printable(row.name))
        show(f"{len(result.rows)} crops would be forgotten; nothing was changed")
    else:
        files = f", {result.deleted} image files deleted" if delete_files else ""
        erased = "" if result.left else ", their descriptors erased"
        erased = erased if result.is_promised else ", their descriptors deleted"
        show(f"{len(result.rows)} crops forgotten{erased}{files}")
    if named and not delete_files and not dry_run:
        say("image files that exist stay in their folder; no run indexes their content again (gallery unforget)")
    if result.same:
        say(f"{len(result.same)} of them have the content of a chosen crop, for example {printable(result.same[0])}")
    files_left = [f"{printable(path)}: {reason}" for path, reason in result.files_left]
    for line in (*result.left, *files_left):
        say(f"left: {line}")
    problems = [*(result.left if result.is_promised else ()), *files_left]
    if problems:
        raise CheckFailedError(f"{len(result.rows)} crops are forgotten, but something of them is left: {problems[0]}")


@gallery_app.command(
    "unforget",
    epilog="Example: rrid-edge gallery unforget demo/gallery demo/gallery/0082_c1s1_000451_03.jpg",
    help="Let forgotten pictures be indexed again. Give their files, or --all for all of them.",
)
def unforget(
    folder: FolderArgument,
    files: Annotated[list[Path] | None, typer.Argument(help="Image files, also relative to the folder.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Let all forgotten pictures in again.")] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.indexing.audit import audit
    from rrid_edge.gallery.indexing.forgetting import unforget as let_in
    from rrid_edge.gallery.opening import location_of, open_store

    if bool(files) == everything:
        raise UsageError("nothing to let in: give image files, or --all for all of them; not both")
    target = location_of(folder, location)
    digests = None if everything else [_digest(file, folder) for file in files or ()]
    with open_store(target, write=True) as gallery:
        count = let_in(gallery, digests)
    audit(target, "unforget", contents=count)
    if as_json:
        print_json({"let_in": count})
        return
    show(f"{count} pictures may be indexed again")


def _digest(file: Path, folder: str) -> str:
    """SHA-256 of an image file.

    Raises:
        UsageError: it cannot be read.
    """
    import hashlib

    from rrid_edge.crops.reading import read_file

    within = Path(folder) / file
    try:
        content, _ = read_file(within if within.is_file() else file)
    except ImageError as error:
        raise UsageError(f"{printable(file)}: cannot be read ({error.reason}); give an image file") from error
    return hashlib.sha256(content).hexdigest()


@gallery_app.command(
    "retention",
    epilog="Example: rrid-edge gallery retention demo/gallery --keep 30d",
    help="Print or set how long crops are kept. The next index, and index --watch, forget older ones.",
)
def retention(
    folder: FolderArgument,
    keep: Annotated[
        str | None, typer.Option(help="Keep crops this long: 30d, 12h, or forever. [default: only print]")
    ] = None,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.crops.times import parse_duration
    from rrid_edge.gallery.indexing.audit import audit
    from rrid_edge.gallery.indexing.retention import age_limit, is_older, set_retention
    from rrid_edge.gallery.opening import location_of, open_store

    target = location_of(folder, location)
    keep_s = None if keep in (None, "forever") else parse_duration(str(keep))
    with open_store(target, write=keep is not None) as gallery:
        if keep is not None:
            set_retention(gallery, keep_s)
        info = gallery.info()
        limit = age_limit(info)
        expired = 0 if limit is None else sum(is_older(row, limit) for row in gallery.rows())
    if keep is not None:
        audit(target, "retention", keep_s=keep_s)
    if as_json:
        print_json({"retention_s": info.retention_s, "expired": expired})
        return
    show(f"{printable(folder)}: {_kept(info)}")
    if expired:
        say(f"{expired} crops are older; the next index forgets them")


def _kept(info: GalleryInfo) -> str:
    seconds = info.retention_s
    if seconds is None:
        return "crops are kept for ever"
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds % size == 0:
            return f"crops are kept for {seconds // size} {unit}"
    return f"crops are kept for {seconds} seconds"
