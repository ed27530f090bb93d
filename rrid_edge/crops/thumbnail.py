"""Thumbnails: small JPEG pictures of crops, for galleries that hold no files."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from rrid_edge.crops.formats import format_of

MAX_SIDE_PX: Final = 160
"""Longest side of a thumbnail. A crop of 384 x 128 pixels becomes 160 x 53, about 3 kB."""
_QUALITY = 85


def thumbnail_of(image: Image.Image, side_px: int = MAX_SIDE_PX) -> bytes:
    """An RGB image as JPEG whose longer side has at most ``side_px`` pixels."""
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def is_thumbnail(content: bytes, image: Image.Image) -> bool:
    """Whether a file is a JPEG that needs no shrinking.

    Args:
        content: bytes of the file.
        image: what was decoded from them.
    """
    return format_of(content) == "JPEG" and max(image.size) <= MAX_SIDE_PX
