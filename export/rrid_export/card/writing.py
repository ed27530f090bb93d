"""Write a model card, and never over a text of somebody else."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from rrid_edge.errors import OutputError, printable
from rrid_edge.files import write_text
from rrid_export.card.facts import read_card
from rrid_export.card.text import card_text

CARD_NAME: Final = "README.md"
"""The name that the hub reads."""
_MOST_BYTES: Final = 1 << 20
_LAST_LINE: Final = re.compile(r"<!-- rrid-edge card ([0-9a-f]{16}) -->\n")


def write_card(model: Path, *, licence: str | None, drawn: bool) -> Path:
    """Write ``README.md`` beside a model. A card that nobody changed is replaced.

    Args:
        model: the model file, with its parity report beside it.
        licence: licence of the weights; None if nobody said.
        drawn: whether it was proved on drawn patterns.

    Returns:
        The card.

    Raises:
        ModelFileError: the model, its parity report or its thresholds are damaged.
        OutputError: there is another ``README.md``, or the folder cannot be written.
    """
    path = check_card(model.parent)
    text = card_text(read_card(model, licence=licence, drawn=drawn))
    write_text(path, f"{text}\n<!-- rrid-edge card {_digest(text)} -->\n")
    return path


def check_card(folder: Path) -> Path:
    """The card of a folder, before the work.

    Raises:
        OutputError: there is a ``README.md`` that is no card, or that somebody changed.
    """
    path = folder / CARD_NAME
    try:
        if not os.path.lexists(path):
            return path
        found = path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size <= _MOST_BYTES else ""
    except (OSError, UnicodeDecodeError):
        found = ""
    text, _, last = found.rpartition("\n<!--")
    match = _LAST_LINE.fullmatch("<!--" + last)
    if match is None or match[1] != _digest(text):
        raise OutputError(
            f"{printable(path)}: this file is there already, and is no unchanged card of rrid-edge; expected none: "
            "move it away, or give another folder",
            parameter="card",
        )
    return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
