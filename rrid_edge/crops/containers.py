"""What of an image file decides its pixels. The rest is metadata, which cannot fail a picture.

Pillow reads metadata while it opens and decodes a file, and refuses the file where it cannot read them. So the decoder
gets a copy without them. Damage of what is kept is left for the decoder to find.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from rrid_edge.crops.exif import UPRIGHT, TiffData, exif_orientation, xmp_orientation

_MOST_PAGES: Final = 1000
_LARGEST_TEXT: Final = 1 << 20
_XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PROFILE: Final = re.compile(rb"\s*(?:exif|APP1)\s+\d+\s+([0-9a-fA-F\s]*)")
"""EXIF data as ImageMagick writes it into a PNG: a name, a length, and hexadecimal digits."""
_METADATA: Final = frozenset(
    b"bKGD caBX cHRM cICP cLLI cLLi dSIG eXIf gAMA gIFg gIFt gIFx hIST iCCP iDOT iTXt mDCV mDCv oFFs pCAL pHYs sBIT "
    b"sCAL sPLT sRGB sTER tEXt tIME vpAg zTXt".split()
)
"""Chunks of a PNG that do not decide its pixels."""
_OF_ANIMATION: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
_PIXEL_TAGS: Final = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332}
    | {338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 50674}
)
"""Tags of a TIFF file that decide its pixels, except its orientation."""
_XMP_TAG: Final = 700


@dataclass(frozen=True)
class Stored:
    """An image file for the decoder.

    Attributes:
        content: the file without metadata; its orientation is taken out.
        orientation: how to turn the decoded picture, 1 to 8 as in EXIF.
        pages: number of pictures, as far as it was counted; 1000 means at least as many.
    """

    content: bytes
    orientation: int = UPRIGHT
    pages: int = 1


def without_metadata(content: bytes, form: str) -> Stored:
    """An image file for the decoder. It never fails: what cannot be understood stays as it is.

    Args:
        content: the bytes of the file.
        form: its format, as :func:`rrid_edge.crops.formats.format_of` gives it.
    """
    if form == "TIFF":
        return _tiff(content)
    reader = _READERS.get(form)
    if reader is None:
        return Stored(content)
    pixels, exif, xmp = reader(content)
    return Stored(pixels, exif_orientation(exif) or xmp_orientation(xmp) or UPRIGHT)


def exif_of(content: bytes, form: str) -> bytes:
    """The EXIF data of an image file; empty if it has none.

    Args:
        content: the bytes of the file.
        form: its format, as :func:`rrid_edge.crops.formats.format_of` gives it.
    """
    if form == "TIFF":
        return content
    reader = _READERS.get(form)
    return b"" if reader is None else reader(content)[1]


class _Cutter:
    """Collects the parts of a file that are kept."""

    def __init__(self, content: bytes) -> None:
        self._content, self._parts, self._start = content, list[bytes](), 0

    def drop(self, start: int, end: int) -> None:
        """Leave out the bytes from ``start`` to ``end``; calls come in the order of the file."""
        self._parts.append(self._content[self._start : start])
        self._start = end

    def kept(self) -> bytes:
        """The other bytes."""
        return b"".join((*self._parts, self._content[self._start :])) if self._parts else self._content


def _jpeg(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A JPEG file without its segments of applications, except those that tell its colours; its EXIF and XMP data."""
    cutter, exif, xmp, at = _Cutter(content), list[bytes](), b"", 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == 0xFF or marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # without data, or no marker
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in (0xD9, 0xDA) or end < at + 4 or end > len(content):
            break
        if (0xE1 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE:
            data = content[at + 4 : end]
            if marker == 0xE1 and data.startswith(b"Exif\0\0"):
                exif.append(data[6:])  # more than 64 KiB are in several segments
            elif marker == 0xE1 and data.startswith(_XMP_IN_JPEG):
                xmp = xmp or data
            cutter.drop(at, end)
        at = end
    return cutter.kept(), b"".join(exif), xmp


def _png(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A PNG file with the chunks of its pixels; its EXIF and XMP data."""
    cutter, exif, profile, xmp, at = _Cutter(content), b"", b"", b"", 8
    while at + 12 <= len(content):
        kind, end = content[at + 4 : at + 8], at + 12 + int.from_bytes(content[at : at + 4], "big")
        if end > len(content) or kind == b"IEND":
            break
        if kind == b"eXIf":
            exif = exif or content[at + 8 : end - 4]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, text = _png_text(kind, content[at + 8 : end - 4])
            if name == b"XML:com.adobe.xmp":
                xmp = xmp or text
            elif name == b"Raw profile type exif":
                profile = profile or text
        if kind in _METADATA or (_is_private(kind) and _is_intact(content[at + 4 : end])):
            cutter.drop(at, end)
        at = end
    return cutter.kept(), exif or _profile(profile), xmp


def _is_private(kind: bytes) -> bool:
    return kind.isalpha() and kind[:1].islower() and kind not in _OF_ANIMATION


def _is_intact(chunk: bytes) -> bool:
    """Whether a chunk has its checksum. The name of a damaged chunk may be one that matters."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Name and text of a chunk of text; an empty text if it cannot be read or is too long."""
    name, _, text = data.partition(b"\0")
    if name not in (b"XML:com.adobe.xmp", b"Raw profile type exif"):
        return name, b""
    is_packed = kind == b"zTXt"
    if kind == b"zTXt":
        text = text[1:]
    elif kind == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not is_packed:
        return name, text[:_LARGEST_TEXT]
    try:
        return name, zlib.decompressobj().decompress(text, _LARGEST_TEXT)
    except zlib.error:
        return name, b""


def _profile(text: bytes) -> bytes:
    found = _PROFILE.match(text)
    digits = b"".join(found[1].split()) if found else b""
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))


def _webp(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A WebP file as it is, which Pillow reads without its metadata; its EXIF and XMP data."""
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            found.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return content, found.get(b"EXIF", b""), found.get(b"XMP ", b"")


_READERS: Final = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}
"""By format: splits a file into what decides its pixels, its EXIF data and its XMP data."""


def _tiff(content: bytes) -> Stored:
    """A TIFF file whose first directory is replaced in its place by one with the tags of its pixels."""
    tiff = TiffData(content)
    kept = sorted(tiff.fields(tiff.first, _PIXEL_TAGS), key=lambda field: field.tag)
    following = tiff.next_of(tiff.first)
    if not kept or following is None:
        return Stored(content)
    xmp = next((tiff.bytes_of(field, _LARGEST_TEXT) for field in tiff.fields(tiff.first, (_XMP_TAG,))), b"")
    orientation = exif_orientation(content) or xmp_orientation(xmp) or UPRIGHT
    count, offset = ("Q", "Q") if tiff.is_big else ("H", "L")
    # A next directory that cannot be read stays: the decoder refuses the file.
    after = following if following >= len(content) else 0
    entries = b"".join(field.entry for field in kept)
    new = struct.pack(tiff.order + count, len(kept)) + entries + struct.pack(tiff.order + offset, after)
    # In its place, because bytes behind the end would be taken for pixels that were cut off.
    body = b"".join((content[: tiff.first], new, content[tiff.first + len(new) :]))
    return Stored(body, orientation, _pages(tiff))


def _pages(tiff: TiffData) -> int:
    """Number of pictures in a TIFF file. A directory that was seen already ends the count."""
    seen, offset = {tiff.first}, tiff.next_of(tiff.first)
    while offset is not None and 0 < offset < len(tiff.data) and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        offset = tiff.next_of(offset)
    return len(seen)
