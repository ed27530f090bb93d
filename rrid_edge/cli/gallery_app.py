"""``rrid-edge gallery``: the group of commands, and the argument that they share."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rrid_edge.cli.app import app

_ORDER = ("list", "verify", "compact", "copy", "export", "retention", "forget", "unforget")


class _InOrder(TyperGroup):
    """Lists the commands from looking to erasing, whichever module defines them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer brings its own Click
        """All names. One that has no place in the order comes last."""
        return sorted(super().list_commands(ctx), key=lambda name: (*_ORDER, name).index(name))


gallery_app = typer.Typer(
    cls=_InOrder, help="Inspect and maintain an index.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(gallery_app, name="gallery")

FolderArgument = Annotated[str, typer.Argument(help="Indexed folder of crops, or milvus+http://HOST:19530/COLLECTION.")]
