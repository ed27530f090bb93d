"""Images that would fill the memory are refused before they are decoded."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import pytest
from PIL import Image

from rrid_edge.crops import images, memory
from rrid_edge.crops.images import load_rgb
from rrid_edge.errors import ImageError

WIDTH, HEIGHT = 64, 48
TURNED = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


def _file(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (WIDTH, HEIGHT)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "per_pixel"),
    [
        (_file("PNG"), 4),
        (_file("PNG", "L"), 1 + 4),
        (_file("PNG", "P"), 1 + 4),
        (_file("PNG", "RGBA"), 4 + 1 + 4),
        (_file("PNG", "P", transparency=0), 1 + 4 + 1 + 4),
        (_file("JPEG"), 4),
        (_file("JPEG", exif=TURNED), 4 + 4),
        (_file("JPEG", progressive=True, subsampling=0), 4 + 2 * 3),
        (_file("JPEG", progressive=True, subsampling=2), 4 + 2 * 1.5),
        (_file("JPEG", "L", progressive=True), 1 + 4 + 2),
        (_file("WEBP"), 4 + 12),
        (_file("WEBP", lossless=True, exif=TURNED), 4 + 12 + 4),
        (_file("GIF", "P"), 1 + 4),
        (_file("BMP", "1"), 1 + 4),
    ],
    ids=[
        *("RGB", "grey", "palette", "alpha", "clear colour", "JPEG", "turned JPEG", "progressive 4:4:4"),
        *("progressive 4:2:0", "progressive grey", "WebP", "turned WebP", "GIF", "BMP"),
    ],
)
def test_the_memory_of_a_kind_is_what_its_decoder_keeps(monkeypatch, content, per_pixel):
    needed = []

    def counted(image, stored, *, is_turned):
        needed.append(memory.decoding_bytes(image, stored, is_turned=is_turned))
        return 0

    monkeypatch.setattr(images, "decoding_bytes", counted)
    with contextlib.suppress(ImageError):  # of transparent pixels
        load_rgb("crop", content)
    size = int(per_pixel * WIDTH * HEIGHT)
    assert size < needed[0] <= size + 2 * len(content)


def test_an_image_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 7900, 8000, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    packed = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    with pytest.raises(ImageError, match=r"^crop\.png: 7900 x 8000 pixels, which take 542 MiB to decode; at most 320"):
        load_rgb("crop.png", b"\x89PNG\r\n\x1a\n" + packed)


def test_scans_of_single_channels_count_as_those_of_a_progressive_file():
    """A baseline JPEG in three scans: its first scan has one channel of three."""
    content = _file("JPEG")
    at = content.index(b"\xff\xda")
    alone = content[:at] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + content[at + 14 :]
    with Image.open(io.BytesIO(alone)) as image:
        assert memory.decoding_bytes(image, alone, is_turned=False) == len(alone) + int((4 + 3) * WIDTH * HEIGHT)
