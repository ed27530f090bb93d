"""Texts of other people in Markdown and YAML: shown as they are, never obeyed."""

from __future__ import annotations

import json
import re

from rrid_edge.errors import printable

_MOST_CHARACTERS = 400


def code(text: str) -> str:
    """A text as a code span, in which no mark-up, link or HTML works.

    The fence is longer than any row of backticks in the text (CommonMark 0.31, section 6.1).
    """
    text = _short(text) or "-"
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def quoted(text: str) -> str:
    """A text as a double-quoted YAML scalar; YAML reads JSON's."""
    return json.dumps(_short(text), ensure_ascii=False)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
