"""Cells of tables that people open in spreadsheets."""

from __future__ import annotations

from typing import Final

from rrid_edge.json_text import text_of_name

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that spreadsheets take for a formula (OWASP, CSV injection)."""


def cell(value: int | str | None) -> int | str:
    """A cell that no spreadsheet takes for a formula: such a text begins with an apostrophe. None is an empty cell."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = text_of_name(value)
    return f"'{text}" if text.startswith(FORMULAS) else text
