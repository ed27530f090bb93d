"""``rrid-edge gallery export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.common import JsonOption, print_json, show
from rrid_edge.cli.gallery_app import FolderArgument, gallery_app
from rrid_edge.cli.options import GalleryOption
from rrid_edge.errors import UsageError, printable
from rrid_edge.stopping import writing_files_only


@gallery_app.command(
    "export",
    epilog="Example: rrid-edge gallery export demo/gallery --output descriptors.npz",
    help="Write the rows and descriptors of an index into a file. Only you can read it. Its ending says what it is: "
    "NumPy (.npz), Parquet (.parquet) or a table for spreadsheets (.csv).",
)
def export(
    folder: FolderArgument,
    old_output: Annotated[
        Path | None, typer.Argument(metavar="FILE", hidden=True, help="As --output, which replaces it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, ending in .npz, .parquet or .csv.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    descriptors: Annotated[
        bool, typer.Option("--descriptors", help="For .csv: add a column per value of the descriptors.")
    ] = False,
    location: GalleryOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_edge.gallery.exporting import export_gallery
    from rrid_edge.gallery.indexing.audit import audit
    from rrid_edge.gallery.opening import location_of, open_store

    if (old_output is None) == (output is None):
        what = "no file to write was given" if output is None else "two files to write were given"
        raise UsageError(f"{what}: expected one, for example --output descriptors.npz")
    file = output or old_output
    assert file is not None
    target = location_of(folder, location)
    with writing_files_only(), open_store(target) as gallery:
        ids = export_gallery(gallery, file, overwrite=overwrite, descriptors=descriptors)
        dimension = gallery.spec.dimension
    audit(target, "export", ids=ids, rows=len(ids), output=printable(file.resolve()))
    if as_json:
        print_json({"output": str(file), "rows": len(ids), "dimension": dimension, "bytes": file.stat().st_size})
        return
    has_descriptors = descriptors or file.suffix.lower() != ".csv"
    what = f"{len(ids)} descriptors of {dimension} values" if has_descriptors else f"{len(ids)} crops"
    show(f"{printable(file)}: {what}")
