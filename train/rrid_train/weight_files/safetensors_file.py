"""Safetensors files, with a header that is checked before any tensor is read.

The file has 8 bytes for the length of the header, the header (JSON: type, shape and place of every tensor), and the
bytes of the tensors without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import CheckpointError
from rrid_train.weight_files.records import Storage, StoredTensor

_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 64 << 20
_METADATA = "__metadata__"
_TYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

_Number = Annotated[int, Meta(ge=0, le=1 << 62)]


@dataclass(frozen=True)
class _Entry:
    """One tensor in the header."""

    dtype: str
    shape: Annotated[tuple[_Number, ...], Meta(max_length=64)]
    data_offsets: tuple[_Number, _Number]


_HEADER: Final = Artefact("the header of a safetensors file", dict[str, _Entry], "copy the file again", CheckpointError)
_NOTES: Final = Artefact("the metadata of a safetensors file", dict[str, str], "copy the file again", CheckpointError)


class SafetensorsFile:
    """A safetensors file whose header was checked.

    Args:
        metadata: its texts.
        entries: type, shape and place of every tensor.
        content: the bytes of all tensors.

    Attributes:
        metadata: its texts.
        tensors: its tensors by name, not read yet.
    """

    def __init__(self, metadata: dict[str, str], entries: dict[str, _Entry], content: memoryview) -> None:
        self.metadata = metadata
        self._entries, self._content = entries, content
        self.tensors = {name: self._stored(name, entry) for name, entry in entries.items()}

    def read(self, key: str, _size: int) -> memoryview:
        """The bytes of a tensor; see :class:`rrid_train.weight_files.records.Source`."""
        start, stop = self._entries[key].data_offsets
        return self._content[start:stop]

    def _stored(self, name: str, entry: _Entry) -> StoredTensor:
        storage = Storage(self, name, _TYPES[entry.dtype], math.prod(entry.shape))
        stride = tuple(math.prod(entry.shape[axis + 1 :]) for axis in range(len(entry.shape)))
        return StoredTensor(storage, 0, entry.shape, stride, storage.dtype)


def is_safetensors(content: memoryview) -> bool:
    """Whether a file begins as a safetensors file does, whatever its name is: a length below 4 GiB, and ``{``."""
    return bytes(content[_LENGTH.size // 2 : _LENGTH.size + 1]) == b"\0\0\0\0{"


def parse_safetensors(content: memoryview, where: str) -> SafetensorsFile:
    """Read and check the header.

    Args:
        content: the whole file.
        where: what messages call the file.

    Raises:
        CheckpointError: the header is damaged, or contradicts the file or itself.
    """
    if len(content) < _LENGTH.size:
        raise _damaged(where, f"it has {len(content)} bytes")
    (length,) = _LENGTH.unpack_from(content)
    if length > min(_MAX_HEADER_BYTES, len(content) - _LENGTH.size):
        raise _damaged(where, f"its header claims {length:,} bytes")
    try:
        header = json.loads(bytes(content[_LENGTH.size : _LENGTH.size + length]), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, str(error)) from error
    if not isinstance(header, dict):
        raise _damaged(where, "its header is no object")
    metadata = _NOTES.convert(header.pop(_METADATA, {}), where=where)
    entries = _HEADER.convert(header, where=where)
    data = content[_LENGTH.size + length :]
    try:
        _check_places(entries.items(), len(data))
    except ValueError as error:
        raise _damaged(where, str(error)) from error
    return SafetensorsFile(metadata, entries, data)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object of which every key is there once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is in its header twice")
    return found


def _check_places(entries: Iterable[tuple[str, _Entry]], size: int) -> None:
    """Check that the tensors fill the data without gaps and overlaps, in sizes that fit their shapes."""
    end = 0
    for name, entry in sorted(entries, key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        dtype = _TYPES.get(entry.dtype)
        if dtype is None:
            raise ValueError(f"{name[:60]!r} has the unknown type {entry.dtype[:20]!r}")
        if start != end or stop - start != math.prod(entry.shape) * dtype.itemsize:
            raise ValueError(f"the bytes of {name[:60]!r} overlap others, leave a gap or do not fit its shape")
        end = stop
    if end != size:
        raise ValueError(f"it has {size:,} bytes of tensors, its header describes {end:,}")


def _damaged(where: str, reason: str) -> CheckpointError:
    return CheckpointError(f"{where}: not a safetensors file, or damaged ({reason[:160]}); copy the file again")
