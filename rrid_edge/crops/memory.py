"""How much memory decoding an image takes. A file of three kilobytes can hold 64 million pixels."""

from __future__ import annotations

from typing import Final

from PIL import Image

MAX_DECODING_BYTES: Final = 320 << 20
"""Most memory for one image: 64 million upright RGB pixels, or 42 million that have to be turned."""

_ONE_BYTE_MODES: Final = frozenset({"1", "L", "P"})
_WEBP_BYTES: Final = 12
"""Of libwebp per pixel, besides Pillow's image: two canvases, and the answer that Pillow copies."""
_COEFFICIENT_BYTES: Final = 2
_START_OF_SCAN: Final = b"\xff\xda"


def decoding_bytes(image: Image.Image, content: bytes, *, is_turned: bool) -> int:
    """Memory to decode an image and to convert it to RGB, in bytes.

    Args:
        image: opened, but not loaded.
        content: the bytes of its file.
        is_turned: it is turned after decoding.
    """
    stored = 1 if image.mode in _ONE_BYTE_MODES else 4  # Pillow keeps three channels in four bytes
    per_pixel: float = stored * (2 if is_turned else 1)
    if "A" in image.getbands() or "transparency" in image.info:
        per_pixel += 1 + 4 + (0 if image.mode == "RGBA" else 4)  # the alpha channel alone, RGB, RGBA
    elif image.mode != "RGB":
        per_pixel += 4
    if image.format == "WEBP":
        per_pixel += _WEBP_BYTES
    elif image.format in ("JPEG", "MPO"):
        per_pixel += _coefficient_bytes(image, content)
    return len(content) + int(per_pixel * image.width * image.height)


def _coefficient_bytes(image: Image.Image, content: bytes) -> float:
    """Bytes per pixel that libjpeg keeps of a file in several scans: all coefficients of all channels."""
    channels: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    start = content.find(_START_OF_SCAN)
    in_first_scan = content[start + 4] if 0 <= start < len(content) - 4 else 0
    if not channels or ("progressive" not in image.info and in_first_scan >= len(channels)):
        return 0
    samples = [across * down for _, across, down, _ in channels]
    largest = max(across for _, across, _, _ in channels) * max(down for _, _, down, _ in channels)
    return _COEFFICIENT_BYTES * sum(samples) / max(1, largest)
