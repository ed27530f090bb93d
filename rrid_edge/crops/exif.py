"""EXIF data that nobody vouches for: single facts are read, and what cannot be read is no error.

Pillow parses and rewrites all tags of a picture to turn it. A tag of a wrong type then fails a sound picture, so only
the needed tags are read here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

ORIENTATION: Final = 0x0112
EXIF_DIRECTORY: Final = 0x8769
UPRIGHT: Final = 1
"""The orientation of a picture that is shown as it is stored."""

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value, by its type."""
_NUMBERS: Final = {1: "B", 3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L"} | {
    16: "Q", 17: "q", 18: "Q"
}  # fmt: skip
_FLOATS: Final = (11, 12)
_LONGEST_TEXT: Final = 256
_MOST_FIELDS: Final = 65_535
_IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([1-8])\b')


@dataclass(frozen=True)
class Field:
    """One tag of a directory.

    Attributes:
        tag: number of the tag.
        kind: number of the type.
        entry: its bytes in the directory.
        place: offset of its values.
        length: bytes of its values, as the directory says.
    """

    tag: int
    kind: int
    entry: bytes
    place: int
    length: int


class TiffData:
    """The directories of TIFF data: of a TIFF file, or of the EXIF data of another format.

    Args:
        data: the bytes from the byte order on. A prefix ``Exif`` with two zeros is skipped.

    Attributes:
        order: byte order as :mod:`struct` writes it; empty if this is no TIFF data.
        is_big: whether this is BigTIFF.
        first: offset of the first directory.
    """

    def __init__(self, data: bytes) -> None:
        while data.startswith(b"Exif\0\0"):
            data = data[6:]
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        version = self._number(2, "H")
        self.is_big = version == 43
        if version not in (42, 43):
            self.order = ""
        self.first = self._number(8, "Q") if self.is_big else self._number(4, "L")

    def _number(self, offset: int, form: str) -> int:
        """The number at an offset; 0 beyond the end."""
        try:
            return int(struct.unpack_from(self.order + form, self.data, offset)[0]) if self.order else 0
        except (struct.error, OverflowError):
            return 0

    def fields(self, offset: int, tags: Collection[int]) -> list[Field]:
        """The fields of some tags in the directory at an offset, as far as it exists; sound data repeat no tag."""
        start, size, count = self._extent(offset)
        end = min(start + size * min(count, _MOST_FIELDS), len(self.data) - size + 1)
        places = range(start, end, size) if start else ()
        return [self._field(at, size) for at in places if self._number(at, "H") in tags]

    def next_of(self, offset: int) -> int | None:
        """The offset of the directory after that at an offset, 0 at the last one; None where the data end before."""
        start, size, count = self._extent(offset)
        end = start + size * count
        if not start or end + (8 if self.is_big else 4) > len(self.data):
            return None
        return self._number(end, "Q" if self.is_big else "L")

    def _extent(self, offset: int) -> tuple[int, int, int]:
        """Offset of the first field of a directory, bytes and number of its fields; zeros if it does not exist."""
        if not self.order or not 0 < offset < len(self.data):
            return 0, 0, 0
        return (
            (offset + 8, 20, self._number(offset, "Q")) if self.is_big else (offset + 2, 12, self._number(offset, "H"))
        )

    def _field(self, at: int, size: int) -> Field:
        count, place = (self._number(at + 4, "Q"), at + 12) if self.is_big else (self._number(at + 4, "L"), at + 8)
        kind = self._number(at + 2, "H")
        length = _SIZES.get(kind, 0) * count
        if length > at + size - place:
            place = self._number(place, "Q" if self.is_big else "L")
        return Field(self._number(at, "H"), kind, self.data[at : at + size], place, length)

    def bytes_of(self, field: Field, most: int) -> bytes:
        """The bytes of a field's values, as far as they exist, at most as many as asked."""
        return self.data[field.place : field.place + min(field.length, most)]

    def number(self, field: Field) -> float | None:
        """The first value of a field if it is a number, or None."""
        form = self.order + _NUMBERS.get(field.kind, "")
        size = struct.calcsize(form)
        data = self.bytes_of(field, size)
        if not size or len(data) < size:
            return None
        value, *divisor = struct.unpack(form, data)
        if not divisor:
            return float(value) if field.kind in _FLOATS else int(value)
        return value / divisor[0] if divisor[0] else None


def exif_orientation(data: bytes) -> int | None:
    """The orientation that EXIF or TIFF data tell, 1 to 8, or None if they tell none.

    A number of any type counts. Other values, such as 0 and 9, count as not told, as in most programs that show
    pictures.
    """
    tiff = TiffData(data)
    for field in tiff.fields(tiff.first, (ORIENTATION,)):
        value = tiff.number(field)
        if value is not None and value in range(1, 9):
            return int(value)
    return None


def xmp_orientation(data: bytes) -> int | None:
    """The orientation that XMP data tell, 1 to 8, or None if they tell none."""
    found = _IN_XMP.search(data)
    return None if found is None else int(found[1])


def exif_texts(data: bytes, tags: tuple[int, ...]) -> tuple[str, ...]:
    """Texts of the EXIF directory, in the order of their ``tags``; an empty text for each that is missing."""
    tiff = TiffData(data)
    for pointer in tiff.fields(tiff.first, (EXIF_DIRECTORY,)):
        offset = tiff.number(pointer)
        if offset is not None and 0 < offset < len(tiff.data):
            found = {field.tag: tiff.bytes_of(field, _LONGEST_TEXT) for field in tiff.fields(int(offset), tags)}
            return tuple(found.get(tag, b"").decode("ascii", "replace").strip("\0 ") for tag in tags)
    return ("",) * len(tags)
