"""JSON that every parser reads, also of file names that are no UTF-8.

Python holds such a byte of a name as half of a surrogate pair, which JSON parsers refuse or replace. In JSON it is the
character U+EF00 plus the byte: U+EF80 to U+EFFF, which are for private use. A name that really has one of these
characters is written by the bytes of its UTF-8 in the same way. So each name has one text, and each text one name.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

_PRIVATE: Final = 0xEF00
_SURROGATE: Final = 0xDC00
_ODD: Final = re.compile("[\uef80-\uefff\ud800-\udfff]")
_TOLD: Final = re.compile("[\uef80-\uefff]")


def json_text(value: object, *, indent: int | None = None) -> str:
    """A value as JSON on one line, or indented. Numbers that are not finite become null, which JSON has."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text_of_name(text)


def text_of_name(name: str) -> str:
    """The name of a file, as Python holds it, as text of Unicode characters."""
    return _ODD.sub(_told, name)


def name_of_text(text: str) -> str:
    """The name that :func:`text_of_name` turned into a text. ``os.fsencode`` gives its bytes."""
    name = _TOLD.sub(lambda found: chr(ord(found[0]) - _PRIVATE + _SURROGATE), text)
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a half of a surrogate pair that stands for no byte
        return name


def _told(found: re.Match[str]) -> str:
    try:
        data = found[0].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a half of a surrogate pair that stands for no byte
        return "\ufffd"
    return "".join(chr(_PRIVATE + byte) for byte in data)


def _finite(value: object) -> object:
    """The value with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
