"""The wire format of protobuf, as far as ONNX files need it. Every length is checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

MOST_BYTES: Final = (1 << 31) - 1
"""Largest message that protobuf reads."""
MOST_FIELDS: Final = 1 << 18
"""Most fields of one message. The largest real one, a graph, has some thousand."""
MOST_TEXT_BYTES: Final = 1 << 24


def pair(view: memoryview) -> tuple[str, str]:
    """Key and value of a ``StringStringEntryProto``."""
    entries = dict(fields(view))
    key, value = entries.get(1, memoryview(b"")), entries.get(2, memoryview(b""))
    if not isinstance(key, memoryview) or not isinstance(value, memoryview):
        raise ValueError("a metadata entry is not text")
    return text(key), text(value)


def text(view: memoryview) -> str:
    """A string field.

    Raises:
        ValueError: it is too long, or no UTF-8.
    """
    if len(view) > MOST_TEXT_BYTES:
        raise ValueError(f"a text of {len(view):,} bytes")
    return bytes(view).decode("utf-8")


def fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of a message: the field number, and an integer or the bytes of a length-delimited value.

    Raises:
        ValueError: the message is damaged, cut off, or has more than :data:`MOST_FIELDS` fields.
    """
    position = 0
    for count in itertools.count():
        if position >= len(view):
            return
        if count == MOST_FIELDS:
            raise ValueError(f"a message has more than {MOST_FIELDS:,} fields")
        key, position = varint(view, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        if kind == 0:
            value, position = varint(view, position)
            yield number, value
        elif kind == 2:
            length, position = varint(view, position)
            yield number, view[position : _end(view, position, length)]
            position += length
        elif kind in (1, 5):
            position = _end(view, position, 8 if kind == 1 else 4)
        else:
            raise ValueError(f"wire type {kind}")


def _end(view: memoryview, position: int, length: int) -> int:
    if position + length > len(view):
        raise ValueError(f"it ends {position + length - len(view):,} bytes too early")
    return position + length


def varint(view: memoryview, position: int) -> tuple[int, int]:
    """The number at a position, and the position after it.

    Raises:
        ValueError: the number is cut off or too long.
    """
    value, shift = 0, 0
    while True:
        if position >= len(view):
            raise ValueError("it ends within a number")
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def encoded_pair(field: int, key: str, value: str) -> bytes:
    """A field with the key and value of a ``StringStringEntryProto``."""
    return encoded(field, encoded(1, key.encode("utf-8")) + encoded(2, value.encode("utf-8")))


def encoded(field: int, content: bytes | memoryview) -> bytes:
    """A length-delimited field: bytes, text, or a message."""
    return b"".join((encoded_varint(field << 3 | 2), encoded_varint(len(content)), content))


def encoded_number(field: int, value: int) -> bytes:
    """A field with an integer; negative ones take 64 bits."""
    return encoded_varint(field << 3) + encoded_varint(value & (1 << 64) - 1)


def encoded_varint(value: int) -> bytes:
    """A number as :func:`varint` reads it."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
