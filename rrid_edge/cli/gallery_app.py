"""``rrid-edge gallery``: the group of commands, and the argument that they share."""

from __future__ import annotations

from typing import Annotated

import typer

from rrid_edge.cli.app import app

gallery_app = typer.Typer(help="Inspect and maintain an index.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(gallery_app, name="gallery")

FolderArgument = Annotated[str, typer.Argument(help="Indexed folder of crops, or milvus+http://HOST:19530/COLLECTION.")]
