"""EXIF blocks with odd entries, written by hand, and their places in JPEG, PNG and WebP files."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from typing import Final

ORIENTATION: Final = 0x0112
_SHORT, _LONG = 3, 4
_KNOWN_TAGS: Final = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x0213, 0x8298, 0x8769, 0x8825, 0xA005),
    *(0x829A, 0x8827, 0x9000, 0x9003, 0x927C, 0x9286, 0xA002, 0xA003, 0x0201, 0x0202, 0x014A, 0x02BC, 0x0000, 0xFFFF),
)
_POINTERS: Final = (0x8769, 0x8825, 0xA005, 0x014A)
_ODD_COUNTS: Final = (0, 1, 2, 3, 4, 5, 255, 65535, 2**16, 2**31 - 1, 2**32 - 1)


@dataclass(frozen=True)
class ExifBlock:
    """A TIFF structure of metadata.

    Attributes:
        content: its bytes, from the byte order on.
        orientation: the orientation that every reader must find; None where the damage leaves it open.
    """

    content: bytes
    orientation: int | None


def plain_exif(orientation: int, order: str = "<") -> ExifBlock:
    """A sound block with an orientation only."""
    return ExifBlock(_structure(order, [_entry(order, ORIENTATION, _SHORT, 1, orientation)], 0), orientation)


def odd_exif(generator: random.Random) -> ExifBlock:
    """A block with an orientation, and with entries or a structure that no camera should write."""
    order, orientation = generator.choice("<>"), generator.randint(1, 8)
    entries = [_entry(order, ORIENTATION, _SHORT, 1, orientation)]
    for _ in range(generator.randint(1, 4)):
        entries.insert(generator.randrange(len(entries) + 1), _odd_entry(order, generator))
    next_ifd = generator.choice((0, 0, 8, 1, 2**31, 2**32 - 1))
    content = _structure(order, entries, next_ifd) + generator.randbytes(generator.choice((0, 0, 16, 200)))
    if generator.random() < 0.5:
        return ExifBlock(content, orientation)
    return ExifBlock(_damaged(content, order, generator), None)


def _structure(order: str, entries: list[bytes], next_ifd: int) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "H", len(entries))
    return mark + struct.pack(order + "I", 8) + count + b"".join(entries) + struct.pack(order + "I", next_ifd)


def _entry(order: str, tag: int, kind: int, count: int, value: int) -> bytes:
    head = struct.pack(order + "HHI", tag, kind, count)
    return head + (struct.pack(order + "HH", value, 0) if kind == _SHORT else struct.pack(order + "I", value))


def _odd_entry(order: str, generator: random.Random) -> bytes:
    """An entry of a type, count or place that does not fit its tag; never another orientation."""
    tag = generator.choice(_KNOWN_TAGS)
    if tag in _POINTERS and generator.random() < 0.7:  # loops and dead ends
        return struct.pack(order + "HHII", tag, _LONG, 1, generator.choice((0, 8, 10, 26, 2**31, 2**32 - 1)))
    kind = generator.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 129, 65535))
    value = generator.choice((0, 1, 2, 8, 20, 4000, 2**31, 2**32 - 1, generator.getrandbits(32)))
    return struct.pack(order + "HHII", tag, kind, generator.choice(_ODD_COUNTS), value)


def _damaged(content: bytes, order: str, generator: random.Random) -> bytes:
    way = generator.randrange(5)
    if way == 0:
        return content[: generator.randrange(len(content))]
    if way == 1:  # the number of entries
        return content[:8] + struct.pack(order + "H", generator.choice((0, 1, 999, 65535))) + content[10:]
    if way == 2:  # the place of the first directory
        places = (0, 1, 7, 9, len(content), 2**31, 2**32 - 1)
        return content[:4] + struct.pack(order + "I", generator.choice(places)) + content[8:]
    if way == 3:  # the orientation itself
        bad = struct.pack(order + "HHI", ORIENTATION, generator.choice((1, 2, 4, 5, 7, 12, 99)), 1)
        good = struct.pack(order + "HHI", ORIENTATION, _SHORT, 1)
        return content.replace(good, bad)
    changed = bytearray(content)
    for _ in range(generator.choice((1, 2, 8))):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def with_exif(content: bytes, block: bytes) -> bytes:
    """A JPEG, PNG or lossless WebP file with this EXIF block put in; it must have none."""
    if content.startswith(b"\xff\xd8"):
        return _jpeg_with(content, block)
    if content.startswith(b"\x89PNG"):
        return content[:33] + png_chunk(b"eXIf", block) + content[33:]
    return _webp_with(content, block)


def _jpeg_with(content: bytes, block: bytes) -> bytes:
    payload = b"Exif\0\0" + block
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    if content[2:4] == b"\xff\xe0":  # after the JFIF header
        end = 4 + int.from_bytes(content[4:6], "big")
        return content[:end] + segment + content[end:]
    return content[:2] + segment + content[2:]


def _webp_with(content: bytes, block: bytes) -> bytes:
    """The file in WebP's extended form, which has chunks of metadata."""
    width, height = _vp8_sides(content)
    flags = 0x08 | (0x10 if content[12:16] == b"VP8L" and content[24] & 0x10 else 0)
    extended = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = webp_chunk(b"VP8X", extended) + content[12:] + webp_chunk(b"EXIF", block)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _vp8_sides(content: bytes) -> tuple[int, int]:
    if content[12:16] == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", content[26:30])
    return width & 0x3FFF, height & 0x3FFF


def webp_chunk(name: bytes, payload: bytes) -> bytes:
    """A chunk of a RIFF file."""
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def png_chunk(name: bytes, payload: bytes) -> bytes:
    """A chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def with_right_checksums(content: bytes) -> bytes:
    """A damaged PNG file whose chunks have right checksums again, so that more than the first check reads it."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    mended, position = [content[:8]], 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(content):
            break
        mended.append(png_chunk(content[position + 4 : position + 8], content[position + 8 : end]))
        position = end + 4
    return b"".join(mended) + content[position:]
