"""The reader of ``.npz`` files: names, types and shapes are checked before an array is allocated.

NumPy's own reader evaluates an array's header as Python, and allocates what the header promises.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import unforeseen

MOST_BYTES: Final = 1 << 30
"""Most bytes of all arrays together."""
_MOST_MEMBERS: Final = 64
_MOST_DIRECTORY_BYTES: Final = 64 << 10
_BLOCK_BYTES: Final = 1 << 20
_END_BYTES: Final = 22
_HEADER: Final = re.compile(
    rb"\{'descr': '(?P<dtype>[<|][a-zA-Z][0-9]{1,6})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:[0-9]{1,20}(?:, [0-9]{1,20})*,?)?)\), \} *\n"
)


@dataclass(frozen=True)
class ArraySchema:
    """What one array of an archive must be.

    Attributes:
        dtype: regular expression of NumPy's type strings, for example ``<f4``.
        shape: per axis a length, or a name. Axes of one name have one length in all arrays.
    """

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class _Header:
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def content_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def read_arrays(path: Path, schemas: Mapping[str, ArraySchema]) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``schemas`` names. Other members are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no archive, is damaged, or an array does not fit its schema.
    """
    if path.exists() and not path.is_file():
        raise ValueError("no ordinary file")
    try:
        with path.open("rb") as stream:
            _check_end(stream)
            with zipfile.ZipFile(stream) as archive:
                members = _find(archive, schemas)
                headers = {name: _read_header(archive, member) for name, member in members.items()}
                _check_headers(headers, schemas)
                return {name: _read(archive, members[name], header) for name, header in headers.items()}
    except (FileNotFoundError, MemoryError, ValueError):
        raise
    except Exception as error:  # zipfile and zlib do not say what they raise
        raise ValueError(unforeseen(error)) from error


def _check_end(stream: BinaryIO) -> None:
    """Check the end of the archive, so that its directory is short. NumPy writes neither a comment nor zip64 there."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _END_BYTES))
    end = stream.read(_END_BYTES)
    if len(end) < _END_BYTES or not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise ValueError("no complete .npz archive")
    members, directory_bytes = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if members > _MOST_MEMBERS or directory_bytes > _MOST_DIRECTORY_BYTES:
        raise ValueError(f"{members:,} members with {directory_bytes:,} bytes of names")


def _find(archive: zipfile.ZipFile, schemas: Mapping[str, ArraySchema]) -> dict[str, zipfile.ZipInfo]:
    names = [member.filename for member in archive.infolist()]
    for name in schemas:
        if names.count(f"{name}.npy") != 1:
            raise ValueError(f"{names.count(f'{name}.npy')} arrays {name!r}, expected 1")
    return {name: archive.getinfo(f"{name}.npy") for name in schemas}


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    """Read the header of an array in NumPy's format 1.0."""
    with archive.open(member) as stream:
        start = stream.read(10)
        if len(start) < 10 or not start.startswith(b"\x93NUMPY\1\0"):
            raise ValueError(f"{member.filename}: no array in NumPy's format 1.0")
        length = int.from_bytes(start[8:], "little")
        found = _HEADER.fullmatch(stream.read(length))
    if found is None:
        raise ValueError(f"{member.filename}: the header is damaged, or is of no plain array in C order")
    shape = tuple(int(number) for number in found["shape"].split(b",") if number.strip())
    return _Header(found["dtype"].decode(), shape, 10 + length)


def _check_headers(headers: Mapping[str, _Header], schemas: Mapping[str, ArraySchema]) -> None:
    lengths: dict[str, int] = {}
    for name, header in headers.items():
        schema = schemas[name]
        fits = re.fullmatch(schema.dtype, header.dtype) and len(header.shape) == len(schema.shape)
        expected = [lengths.get(axis, axis) if isinstance(axis, str) else axis for axis in schema.shape]
        for axis, length in zip(schema.shape, header.shape, strict=False):
            if isinstance(axis, str):
                lengths.setdefault(axis, length)
            fits = fits and length == (lengths[axis] if isinstance(axis, str) else axis)
        if not fits:
            raise ValueError(
                f"{name} is {header.dtype} {list(header.shape)}, expected {schema.dtype} "
                f"[{', '.join(map(str, expected))}]"
            )
    total = sum(header.content_bytes for header in headers.values())
    if total > MOST_BYTES:
        raise ValueError(f"arrays of {total:,} bytes, at most {MOST_BYTES:,} are read")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: _Header) -> NDArray[Any]:
    """Read the content of an array. Memory grows with what the file really holds."""
    content = bytearray()
    with archive.open(member) as stream:
        stream.read(header.size)
        while block := stream.read(_BLOCK_BYTES):  # up to the end, where zipfile compares the checksum
            content += block
            if len(content) > header.content_bytes:
                break
    if len(content) != header.content_bytes:
        raise ValueError(f"{member.filename}: {len(content):,} bytes, expected {header.content_bytes:,}")
    return np.frombuffer(content, header.dtype).reshape(header.shape)
