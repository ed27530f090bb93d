"""PyTorch's format before version 1.6, and plain pickles.

The older format is a row of pickles: a magic number, a version, facts of the machine, the content, and the names of
the storages. The storages follow, each with the number of its values.
"""

from __future__ import annotations

import io
import struct
from typing import Final

import torch

from rrid_train.weight_files.arrays import as_bytes
from rrid_train.weight_files.pickles import Budget, read_pickle
from rrid_train.weight_files.records import RefusedError, Storage, storage_of, whole_numbers
from rrid_train.weight_files.streams import Stream

_MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_COUNT = struct.Struct("<q")


class OldStorages:
    """The storages of one file in the older format.

    Args:
        content: the whole file.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._types: dict[str, torch.dtype] = {}
        self._places: dict[str, tuple[int, int]] = {}

    def read(self, key: str, size: int) -> memoryview:
        """The bytes of a storage; see :class:`rrid_train.weight_files.records.Source`."""
        if key not in self._places:
            raise ValueError(f"storage {key[:40]!r} is missing")
        start, found = self._places[key]
        if found != size:
            raise ValueError(f"storage {key[:40]!r} has {found:,} bytes, expected {size:,}")
        return self._content[start : start + size]

    def named(self, identity: object) -> object:
        """The object for a persistent identity."""
        if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":
            return identity[1]  # a class with its source text
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise RefusedError("refers to data outside the file")
        storage = storage_of(identity[1], identity[2], identity[4], self)
        if self._types.setdefault(storage.key, storage.dtype) is not storage.dtype:
            raise ValueError(f"storage {storage.key[:40]!r} has two types")
        view = identity[5] if len(identity) == 6 else None
        if view is None:
            return storage
        if not isinstance(view, tuple) or len(view) != 3:
            raise ValueError("a view of a storage is damaged")
        whole_numbers(view[1], view[2])
        return Storage(self, storage.key, storage.dtype, view[2], view[1], storage.values)

    def find(self, keys: object, position: int) -> None:
        """Find the bytes of all storages.

        Args:
            keys: the names of the storages, in their order.
            position: where the first one begins.
        """
        if not isinstance(keys, list):
            raise ValueError("the list of its storages is damaged")
        for key in keys:
            dtype = self._types.get(key) if isinstance(key, str) else None
            if dtype is None or key in self._places or position + _COUNT.size > len(self._content):
                raise ValueError("the list of its storages does not fit the file")
            (values,) = _COUNT.unpack_from(self._content, position)
            start, size = position + _COUNT.size, values * dtype.itemsize
            if values < 0 or start + size > len(self._content):
                raise ValueError(f"storage {key[:40]!r} is truncated")
            self._places[key] = (start, size)
            position = start + size


def load_old(stream: Stream, content: memoryview, budget: Budget) -> object:
    """Read a file in PyTorch's older format, or a plain pickle.

    Args:
        stream: the file, at its start.
        content: its bytes.
        budget: instructions that may be carried out.

    Raises:
        RefusedError: it asks for something that no weight file needs.
        ValueError: it is damaged.
    """
    known: dict[int, tuple[bytes | str, object]] = {}

    def nested(stored: bytes | str) -> object:
        # Many tensors may name one storage: it is read once. The bytes are kept, so that their identity stays theirs.
        if id(stored) not in known:
            known[id(stored)] = (stored, _load_stored(as_bytes(stored), budget))
        return known[id(stored)][1]

    first = read_pickle(stream, budget, nested=nested)
    return first if first != _MAGIC_NUMBER else _load_rest(stream, content, budget)


def _load_stored(stored: bytes, budget: Budget) -> object:
    """The storage that a plain pickle holds as a file in the older format."""
    stream = io.BytesIO(stored)
    if read_pickle(stream, budget) != _MAGIC_NUMBER:
        raise ValueError("a storage is damaged")
    storage = _load_rest(stream, memoryview(stored), budget)
    if not isinstance(storage, Storage):
        raise ValueError("a storage is damaged")
    return storage


def _load_rest(stream: Stream, content: memoryview, budget: Budget) -> object:
    """What follows the magic number."""
    if read_pickle(stream, budget) != _VERSION:
        raise ValueError("its version is unknown")
    facts = read_pickle(stream, budget)
    if not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine, or is damaged")
    storages = OldStorages(content)
    found = read_pickle(stream, budget, persistent=storages.named)
    storages.find(read_pickle(stream, budget), stream.tell())
    return found
