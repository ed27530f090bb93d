"""Image files with EXIF data that are built byte by byte, sound or odd."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

ORIENTATION = 0x0112
SHORT = 3


@dataclass(frozen=True)
class Tag:
    """One tag as it is written: number, type, count, and the 4 bytes of its value or offset."""

    number: int
    kind: int
    count: int
    value: bytes


def orientation_tag(orientation: int, order: str = "<") -> Tag:
    """A sound orientation."""
    return Tag(ORIENTATION, SHORT, 1, struct.pack(order + "HH", orientation, 0))


def exif_block(tags: Sequence[Tag], order: str = "<", after: int = 0, rest: bytes = b"") -> bytes:
    """EXIF data of one directory, with the offset of the next one, and bytes behind it."""
    fields = b"".join(struct.pack(order + "HHI", tag.number, tag.kind, tag.count) + tag.value for tag in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(tags)) + fields + struct.pack(order + "I", after) + rest


def turned_picture() -> Image.Image:
    """A picture whose eight orientations all differ."""
    image = Image.new("RGB", (24, 12), (90, 110, 140))
    drawing = ImageDraw.Draw(image)
    drawing.rectangle((2, 1, 20, 4), fill=(150, 60, 40))
    drawing.rectangle((2, 5, 7, 10), fill=(20, 160, 60))
    return image


def encoded(image: Image.Image, form: str) -> bytes:
    """An image file without metadata, as exact as its format allows."""
    stream = io.BytesIO()
    image.save(stream, form, **({"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}))
    return stream.getvalue()


def with_exif(image: Image.Image, form: str, exif: bytes) -> bytes:
    """A JPEG, PNG or WebP file with EXIF data, which are not looked at."""
    data = encoded(image, form)
    if form == "JPEG":
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]
    if form == "PNG":
        return data[:33] + png_chunk(b"eXIf", exif) + data[33:]
    assert form == "WEBP"
    extended = struct.pack("<IBxxx", 10, 8) + struct.pack("<I", image.width - 1)[:3]
    extended += struct.pack("<I", image.height - 1)[:3]
    padded = b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    body = b"WEBPVP8X" + extended + data[12:] + padded
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff_with(image: Image.Image, tags: Sequence[Tag], order: str = "<", after: int = 0) -> bytes:
    """An uncompressed RGB TIFF file of one strip, with further tags."""
    pixels = image.tobytes()
    bits, start = struct.pack(order + "HHH", 8, 8, 8), 8 + 2 + 12 * (9 + len(tags)) + 4

    def number(tag: int, kind: int, value: int, count: int = 1) -> Tag:
        packed = struct.pack(order + "HH", value, 0) if kind == SHORT else struct.pack(order + "I", value)
        return Tag(tag, kind, count, packed)

    own = [
        number(256, 4, image.width),
        number(257, 4, image.height),
        Tag(258, SHORT, 3, struct.pack(order + "I", start)),
    ]
    own += [number(259, SHORT, 1), number(262, SHORT, 2), number(273, 4, start + 6), number(277, SHORT, 3)]
    own += [number(278, 4, image.height), number(279, 4, len(pixels))]
    return exif_block(sorted((*own, *tags), key=lambda tag: tag.number), order, after, bits + pixels)
