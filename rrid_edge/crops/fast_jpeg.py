"""Plain JPEG files decoded by simplejpeg, an optional package. Its pixels equal Pillow's, and it releases the GIL.

Both packages contain libjpeg-turbo, and the slow exact DCT with smooth upsampling gives the same bytes in every version
so far. That is not trusted: at first use, both decode drawn pictures, and one differing byte turns simplejpeg off.

simplejpeg decodes the usual file of a camera or tracker only: baseline, 8 bits, YCbCr in one scan, with chroma at full
size, half width, or half width and half height. Every other file is Pillow's, and so is each that simplejpeg refuses or
warns about: Pillow then raises the error.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from rrid_edge.machine.gpu_findings import Finding

PACKAGE: Final = "simplejpeg"
MIN_SIDE_PX: Final = 8
MAX_PIXELS: Final = 16_000_000
MAX_BYTES: Final = 32 << 20
"""Larger files and smaller pictures are Pillow's. Below, the limits of :mod:`rrid_edge.crops.images` are never met."""

_FRAME, _TABLES, _QUANTISERS, _RESTART, _JFIF, _ADOBE, _SCAN = 0xC0, 0xC4, 0xDB, 0xDD, 0xE0, 0xEE, 0xDA
_LUMA_SAMPLING: Final = (0x11, 0x21, 0x22)
_ONE_SCAN: Final = bytes((0, 63, 0))
_PROBE_SIZES: Final = ((75, 37), (64, 128), (17, 9))
_PROBE_QUALITIES: Final = (20, 95)


@dataclass(frozen=True)
class Decoder:
    """The optional decoder of this installation.

    Attributes:
        decode: JPEG bytes to RGB pixels, or None if it is not used.
        version: of the package; empty if it is not installed.
        problem: why it is not used, or empty.
    """

    decode: Callable[[bytes], NDArray[np.uint8]] | None = None
    version: str = ""
    problem: str = ""


@functools.lru_cache(maxsize=1)
def fast_decoder() -> Decoder:
    """The optional decoder, after comparing it with Pillow on drawn pictures (10 ms, once per process)."""
    try:
        import simplejpeg
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == PACKAGE
        return Decoder(problem="" if is_absent else f"cannot be imported ({error})")

    def decode(content: bytes) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", fastdct=False, fastupsample=False)
        return pixels

    version = str(getattr(simplejpeg, "__version__", "?"))
    try:
        is_equal = _decodes_as_pillow(decode)
    except Exception as error:
        return Decoder(version=version, problem=f"cannot decode drawn pictures ({type(error).__name__})")
    return Decoder(decode, version) if is_equal else Decoder(version=version, problem="its pixels differ from Pillow's")


def decoding_finding() -> Finding:
    """What ``doctor`` says of the optional decoder."""
    from rrid_edge.machine.advice import extra_advice
    from rrid_edge.machine.gpu import this_gpu
    from rrid_edge.machine.gpu_findings import Finding

    found, remedy = fast_decoder(), extra_advice("fast")
    if found.decode is not None:
        return Finding(PACKAGE, "ok", f"{found.version}: decodes plain JPEG files; its pixels are Pillow's")
    if found.problem:
        return Finding(PACKAGE, "note", f"{found.version} is not used: {found.problem}".strip(), remedy)
    if not this_gpu().present:
        return Finding(PACKAGE, "ok", "not installed: Pillow decodes, which is fast enough for engines on a CPU")
    return Finding(PACKAGE, "missing", "not installed: it decodes JPEG files faster, for engines on a GPU", remedy)


def _decodes_as_pillow(decode: Callable[[bytes], NDArray[np.uint8]]) -> bool:
    """Whether a decoder gives Pillow's pixels of drawn pictures, of all samplings that it is used for."""
    generator = np.random.default_rng(0)
    for width, height in _PROBE_SIZES:
        coarse = generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        for quality in _PROBE_QUALITIES:
            for sampling in range(3):
                stream = io.BytesIO()
                picture.save(stream, "JPEG", quality=quality, subsampling=sampling)
                content = stream.getvalue()
                with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
                    expected = np.asarray(image)
                if plain_size(content) != (height, width) or not np.array_equal(decode(content), expected):
                    return False
    return True


def fast_pixels(content: bytes) -> NDArray[np.uint8] | None:
    """The pixels of a plain JPEG file, uint8 (height, width, 3), RGB; None if Pillow has to decode it.

    Args:
        content: the file without metadata, as :func:`rrid_edge.crops.containers.without_metadata` returns it.
    """
    decode = fast_decoder().decode
    if decode is None or (size := plain_size(content)) is None:
        return None
    try:
        pixels = decode(content)
    except Exception:  # damaged in any way: Pillow judges it
        return None
    return pixels if pixels.shape == (*size, 3) else None


def plain_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a file that simplejpeg may decode; None for every other file, and in every doubt."""
    if len(content) > MAX_BYTES or content[:2] != b"\xff\xd8":
        return None
    size, at = None, 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, end = content[at + 1], at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        data = content[at + 4 : end]
        if end < at + 4 or end > len(content):
            return None
        if marker == _SCAN:
            is_whole = len(data) == 10 and data[0] == 3 and data[1:7:2] == b"\1\2\3" and data[7:] == _ONE_SCAN
            return size if is_whole else None
        if marker == _FRAME and size is None:
            size = _frame_size(data)
            if size is None:
                return None
        elif not _is_plain(marker, data):
            return None
        at = end
    return None


def _is_plain(marker: int, data: bytes) -> bool:
    """Whether a segment before the scan leaves no doubt how both packages read it."""
    if marker == _QUANTISERS:  # 8 bits per value, numbers 0 to 3
        return len(data) > 0 and len(data) % 65 == 0 and all(number < 4 for number in data[::65])
    if marker == _JFIF:  # without a thumbnail
        return len(data) == 14 and data.startswith(b"JFIF\0")
    if marker == _ADOBE:  # YCbCr
        return len(data) == 12 and data.startswith(b"Adobe") and data[11] == 1
    return marker == _TABLES or (marker == _RESTART and len(data) == 2)


def _frame_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a frame of 8 bits and the channels 1, 2 and 3, YCbCr; None if it is another one."""
    if len(data) != 15 or data[0] != 8 or data[5] != 3 or data[6:15:3] != b"\1\2\3":
        return None
    luma, *chroma = data[7:15:3]
    height, width = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
    if luma not in _LUMA_SAMPLING or chroma != [0x11, 0x11]:
        return None
    return (height, width) if min(height, width) >= MIN_SIDE_PX and height * width <= MAX_PIXELS else None
