"""The model card of ``rrid-edge export`` and ``rrid-edge adopt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.common import show
from rrid_edge.errors import UsageError

CardOption = Annotated[
    bool, typer.Option("--card", help="Write a model card, README.md, beside the model; the Hugging Face hub reads it.")
]
LicenceOption = Annotated[
    str | None, typer.Option(help="For --card: licence of the weights, such as mit or apache-2.0; default: unknown.")
]


def check_card(card: bool, licence: str | None, folder: Path) -> None:
    """Refuse options that do not fit, and a folder with another ``README.md``, before the work.

    Raises:
        UsageError: a licence without a card, or an empty one.
        OutputError: there is a ``README.md`` that is no unchanged card.
    """
    if licence is not None and not card:
        raise UsageError("--licence is for the model card: give it with --card", parameter="licence")
    if licence is not None and not licence.strip():
        raise UsageError("the licence is empty: expected a name such as mit", parameter="licence")
    if card:
        from rrid_export.card import writing

        writing.check_card(folder)


def write_card(model: Path, licence: str | None, *, drawn: bool, quiet: bool) -> str:
    """Write the card of a model, and print its name unless ``quiet``; returns its path."""
    from rrid_export.card import writing

    card = writing.write_card(model, licence=licence, drawn=drawn)
    if not quiet:
        show(f"card {card}")
    return str(card)
