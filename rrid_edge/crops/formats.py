"""The image formats that are read, told by the first bytes of a file; its name decides nothing."""

from __future__ import annotations

import importlib
import re
from typing import Final

from rrid_edge.file_kinds import PICTURES, other_kind

FORMATS: Final = "JPEG, PNG, BMP, WebP, TIFF, PPM (PGM, PBM) or GIF"
"""The formats that are read, for messages. The first picture of an MPO file is a JPEG picture."""
HEAD_BYTES: Final = 64
"""Bytes at the start of a file that tell its format."""

_PLUGINS: Final = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "GIF": "GifImagePlugin",
}
"""Pillow's module of each format. Without its import, Pillow imports the modules of all formats that it knows."""


def format_of(head: bytes) -> str | None:
    """Pillow's name of the format of a file that can be read, or None.

    Args:
        head: the first :data:`HEAD_BYTES` bytes of the file, or more.
    """
    found = (name for name, magic in PICTURES if re.match(magic, head, re.DOTALL))
    name = next(found, None)
    if name is not None:
        importlib.import_module(f"PIL.{_PLUGINS[name]}")
    return name


def why_refused(head: bytes) -> str:
    """What a file is that is not of a format that is read, and what to do, in one line.

    Args:
        head: the first :data:`HEAD_BYTES` bytes of the file, or more.
    """
    if not head:
        return f"not an image, but an empty file; expected {FORMATS}: fetch it again"
    what = other_kind(head)
    if what is None:
        return f"not an image of a known format; expected {FORMATS}"
    return f"{what}, which is not read; expected {FORMATS}: convert or replace it"
