"""Sound image files of all formats that people have, promised or refused; the fuzzer damages them."""

from __future__ import annotations

import io
import math
import multiprocessing
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from fuzzing.exif import plain_exif, png_chunk, with_exif

Seed = Callable[[Image.Image], bytes]


@dataclass(frozen=True)
class ImageFormat:
    """A format, or a variant that is stored differently.

    Attributes:
        suffix: of its files.
        reads: whether the package promises to read it; otherwise it refuses every file of it.
        seeds: functions that write sound files.
        takes_exif: an EXIF block can be put into its files.
    """

    suffix: str
    reads: bool
    seeds: tuple[Seed, ...]
    takes_exif: bool = False


def picture(seed: int, width_px: int, height_px: int) -> Image.Image:
    """A smooth RGB picture. The eight orientations of it differ."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width_px, height_px), Image.Resampling.BILINEAR)


def _saved(image: Image.Image, kind: str, *, mode: str = "RGB", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    stream = io.BytesIO()
    image.convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _as(kind: str, **options: Any) -> Seed:  # noqa: ANN401 - Pillow's own
    return partial(_saved, kind=kind, **options)


def _pages(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    return _saved(image, kind, save_all=True, append_images=[ImageOps.mirror(image)], **options)


def _mpo(image: Image.Image) -> bytes:
    return _pages(image, "MPO")


def _turned(image: Image.Image, seed: Seed, orientation: int, order: str) -> bytes:
    return with_exif(seed(image), plain_exif(orientation, order).content)


def _turned_jpegs() -> tuple[Seed, ...]:
    return tuple(partial(_turned, seed=_as("JPEG"), orientation=turn, order="<>"[turn % 2]) for turn in range(1, 9))


def _deep_png(image: Image.Image, channels: int) -> bytes:
    """A PNG of 16 bits per channel, which Pillow cannot write in colour."""
    values = np.asarray(image.convert("RGB"), dtype=">u2")[:, :, :channels] * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return _png(image.size, 16, {1: 0, 3: 2}[channels], 0, rows)


def _interlaced_png(image: Image.Image) -> bytes:
    """An RGB PNG in Adam7's seven passes, which Pillow cannot write."""
    pixels, rows = np.asarray(image), b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        for row in pixels[top::down, left::right]:
            rows += b"\0" + row.tobytes() if row.size else b""
    return _png(image.size, 8, 2, 1, rows)


def _png(size: tuple[int, int], bits: int, colours: int, interlaced: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, bits, colours, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _clear_palette_png(image: Image.Image) -> bytes:
    indices = image.convert("P")
    return _saved(indices, "PNG", mode="P", transparency=indices.getpixel((0, 0)))


def _opaque_png(image: Image.Image, mode: str) -> bytes:
    return _saved(image, "PNG", mode=mode)


def _small_bmp(image: Image.Image, bits: int, run_length: bool) -> bytes:
    """A BMP of 4 or 8 bits per pixel, plain or run-length encoded."""
    grey = np.asarray(image.convert("L")) >> (8 - bits)
    palette = b"".join(bytes([shade * 255 // (2**bits - 1)] * 3 + [0]) for shade in range(2**bits))
    body = b""
    for row in grey[::-1]:
        if run_length:
            body += b"".join(bytes([1, value if bits == 8 else value << 4]) for value in row.tolist()) + b"\0\0"
        else:
            even = np.pad(row, (0, len(row) % 2))
            packed = row if bits == 8 else (even[0::2] << 4 | even[1::2])
            body += packed.tobytes().ljust((packed.size + 3) // 4 * 4, b"\0")
    body += b"\0\1" if run_length else b""
    compression = {4: 2, 8: 1}[bits] if run_length else 0
    header = struct.pack("<IiiHHIIiiII", 40, *image.size, 1, bits, compression, len(body), 2835, 2835, 2**bits, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


def _tiled_tiff(image: Image.Image) -> bytes:
    """A TIFF of 16 x 16 tiles, which Pillow cannot write."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    across, down = -(-width // 16), -(-height // 16)
    full = np.zeros((down * 16, across * 16, 3), np.uint8)
    full[:height, :width] = pixels
    tiles = [full[y : y + 16, x : x + 16].tobytes() for y in range(0, down * 16, 16) for x in range(0, across * 16, 16)]
    count, bits_at = len(tiles), 8 + 2 + 10 * 12 + 4
    offsets_at, data_at = bits_at + 6, bits_at + 6 + 8 * len(tiles)
    places = [data_at + 768 * index for index in range(count)]
    entries = (
        *(
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 3, bits_at),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (277, 3, 1, 3),
        ),
        *((322, 4, 1, 16), (323, 4, 1, 16)),
        (324, 4, count, offsets_at if count > 1 else places[0]),
        (325, 4, count, offsets_at + 4 * count if count > 1 else 768),
    )
    directory = struct.pack("<H", 10) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 4
    tables = struct.pack("<HHH", 8, 8, 8) + struct.pack(f"<{2 * count}I", *places, *[768] * count)
    return b"II*\0" + struct.pack("<I", 8) + directory + tables + b"".join(tiles)


def _ascii_ppm(image: Image.Image, kind: int) -> bytes:
    mode, most = {1: ("1", 1), 2: ("L", 255), 3: ("RGB", 255)}[kind]
    values = np.asarray(image.convert(mode)).astype(int).reshape(-1)
    head = f"P{kind}\n# made by hand\n{image.width} {image.height}\n" + ("" if kind == 1 else f"{most}\n")
    return (head + " ".join(str(value) for value in values.tolist()) + "\n").encode()


def _psd(image: Image.Image) -> bytes:
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, image.height, image.width, 8, 3) + b"\0" * 12
    planes = np.moveaxis(np.asarray(image), 2, 0)
    return header + b"\0\0" + planes.tobytes()


def _fits(image: Image.Image) -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": "8", "NAXIS": "2", "NAXIS1": str(image.width), "NAXIS2": str(image.height)}
    head = "".join(f"{name:<8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    return head.ljust(2880).encode() + image.convert("L").tobytes().ljust(2880, b"\0")


def _heif(image: Image.Image) -> bytes:
    box = b"ftypheic\0\0\0\0mif1heic"
    return struct.pack(">I", len(box) + 4) + box + struct.pack(">I", 60) + b"meta" + image.tobytes()[:300]


def _vector(image: Image.Image) -> bytes:
    size = f'width="{image.width}" height="{image.height}"'
    return f'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" {size}><rect {size}/></svg>'.encode()


_JPEG = {"quality": 90}
FORMATS: Final[dict[str, ImageFormat]] = {
    "jpeg": ImageFormat(
        ".jpg", True, (_as("JPEG", **_JPEG), _as("JPEG", subsampling=0), _as("JPEG", optimize=True)), True
    ),
    "jpeg 4:2:0": ImageFormat(".jpeg", True, (_as("JPEG", subsampling=2), _as("JPEG", subsampling=1))),
    "jpeg grey": ImageFormat(".jpg", True, (_as("JPEG", mode="L"),), True),
    "jpeg progressive": ImageFormat(".jpg", True, (_as("JPEG", progressive=True),), True),
    "jpeg restarts": ImageFormat(
        ".jpg", True, (_as("JPEG", restart_marker_blocks=1), _as("JPEG", restart_marker_rows=1))
    ),
    "jpeg turned": ImageFormat(".jpg", True, _turned_jpegs()),
    "jpeg cmyk": ImageFormat(".jpg", False, (_as("JPEG", mode="CMYK"),)),
    "mpo": ImageFormat(".jpg", True, (_mpo,)),
    "png": ImageFormat(
        ".png", True, (_as("PNG"), _as("PNG", mode="L"), _as("PNG", mode="1"), partial(_opaque_png, mode="RGBA")), True
    ),
    "png palette": ImageFormat(".png", True, (_as("PNG", mode="P"), _as("PNG", mode="P", bits=4)), True),
    "png clear": ImageFormat(".png", False, (_clear_palette_png,)),
    "png interlaced": ImageFormat(".png", True, (_interlaced_png,), True),
    "png 16 bit": ImageFormat(".png", False, (partial(_deep_png, channels=1), partial(_deep_png, channels=3))),
    "apng": ImageFormat(".png", False, (partial(_pages, kind="PNG"),)),
    "bmp": ImageFormat(
        ".bmp", True, (_as("BMP"), _as("DIB"), _as("BMP", mode="L"), _as("BMP", mode="P"), _as("BMP", mode="1"))
    ),
    "bmp 4 bit": ImageFormat(".bmp", True, (partial(_small_bmp, bits=4, run_length=False),)),
    "bmp rle": ImageFormat(".bmp", True, tuple(partial(_small_bmp, bits=bits, run_length=True) for bits in (4, 8))),
    "webp lossy": ImageFormat(".webp", True, (_as("WEBP", quality=90),), True),
    "webp lossless": ImageFormat(".webp", True, (_as("WEBP", lossless=True),), True),
    "webp animated": ImageFormat(".webp", False, (partial(_pages, kind="WEBP"),)),
    "tiff": ImageFormat(
        ".tif", True, (_as("TIFF"), _as("TIFF", mode="L"), _as("TIFF", mode="1"), _as("TIFF", big_tiff=True))
    ),
    "tiff packed": ImageFormat(
        ".tiff", True, tuple(_as("TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"))
    ),
    "tiff fax": ImageFormat(
        ".tif", True, tuple(_as("TIFF", mode="1", compression=name) for name in ("group3", "group4"))
    ),
    "tiff tiled": ImageFormat(".tif", True, (_tiled_tiff,)),
    "tiff pages": ImageFormat(".tif", False, (partial(_pages, kind="TIFF"),)),
    "ppm": ImageFormat(".ppm", True, (_as("PPM"), _as("PPM", mode="L"), _as("PPM", mode="1"))),
    "ppm ascii": ImageFormat(".ppm", True, tuple(partial(_ascii_ppm, kind=kind) for kind in (1, 2, 3))),
    "gif": ImageFormat(".gif", True, (_as("GIF"), _as("GIF", mode="L"), _as("GIF", interlace=0))),
    "gif animated": ImageFormat(".gif", False, (partial(_pages, kind="GIF"),)),
    "avif": ImageFormat(".avif", False, (_as("AVIF"),)),
    "jpeg 2000": ImageFormat(".jp2", False, (_as("JPEG2000"), _as("JPEG2000", no_jp2=True))),
    "eps": ImageFormat(".eps", False, (_as("EPS"),)),
    "pdf": ImageFormat(".pdf", False, (_as("PDF"),)),
    "tga": ImageFormat(".tga", False, (_as("TGA"), _as("TGA", compression="tga_rle"))),
    "pcx": ImageFormat(".pcx", False, (_as("PCX"),)),
    "sgi": ImageFormat(".sgi", False, (_as("SGI"),)),
    "ico": ImageFormat(".ico", False, (_as("ICO"),)),
    "dds, blp": ImageFormat(".dds", False, (_as("DDS"), _as("BLP", mode="P"))),
    "other": ImageFormat(
        ".jpg",
        False,
        (
            _as("IM"),
            _as("MSP", mode="1"),
            _as("QOI"),
            _as("SPIDER", mode="F"),
            _as("XBM", mode="1"),
            _psd,
            _fits,
            _heif,
            _vector,
        ),
    ),
}
"""All formats, by the name that the summary shows."""


def huge_files(pixels: int) -> list[tuple[str, bytes]]:
    """Files of so many pixels that take a few kilobytes, with their suffixes."""
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, which gives its memory back.
        process = multiprocessing.get_context("fork").Process(
            target=_write_huge, args=(Path(folder), math.isqrt(pixels))
        )
        process.start()
        process.join()
        return [(path.suffix, path.read_bytes()) for path in sorted(Path(folder).iterdir())]


def _write_huge(folder: Path, side: int) -> None:
    forms: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        (".jpg", "JPEG", "RGB", {}),
        (".jpg", "JPEG", "RGB", {"progressive": True}),
        (".jpg", "JPEG", "RGB", {"exif": b"Exif\0\0" + plain_exif(6).content}),
        (".png", "PNG", "RGB", {}),
        (".png", "PNG", "RGBA", {}),
        (".png", "PNG", "P", {"transparency": 0}),
        (".webp", "WEBP", "RGB", {}),
        (".webp", "WEBP", "RGBA", {"lossless": True}),
        (".tif", "TIFF", "RGB", {"compression": "tiff_deflate"}),
        (".gif", "GIF", "P", {}),
    )
    for number, (suffix, kind, mode, options) in enumerate(forms):
        content = _saved(Image.new(mode, (side, side)), kind, mode=mode, **options)
        (folder / f"{number:02d}{suffix}").write_bytes(content)
