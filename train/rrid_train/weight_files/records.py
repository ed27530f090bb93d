"""What the reader of pickles builds: plain values, and the records of this module. None of them has behaviour."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

STORAGE_TYPES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
TENSOR_TYPES: Final = {name: value for name in dir(torch) if isinstance(value := getattr(torch, name), torch.dtype)}
_MAX_REPEATED = 1 << 20
"""Most values of a tensor that repeats those of its storage (stride 0), so that few bytes cannot claim all memory."""
_MAX_AXES = 64
_MAX_NUMBER = 1 << 62
_LARGEST_KEY = 1 << 60
"""Larger integers can be chosen to have one hash, which makes a dictionary slow."""
_MAX_KEY_PARTS = 16


class RefusedError(Exception):
    """The file asks for something that no weight file needs. The text completes 'refused, it ...'."""


class Source(Protocol):
    """Where the bytes of storages lie."""

    def read(self, key: str, size: int) -> memoryview:
        """The bytes of a storage.

        Args:
            key: its name.
            size: how many bytes it must have.

        Raises:
            ValueError: there is no such storage, it has another size, or its bytes are damaged.
        """
        ...


@dataclass(frozen=True, eq=False)
class Reference:
    """The name of a class or function. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Shell:
    """Stands in for an object whose class is not imported.

    Attributes:
        kind: name of its class.
        attributes: its attributes.
        entries: its entries if its class is a dictionary.
        items: its items if its class is a list.
    """

    kind: str
    attributes: dict[str, object] = field(default_factory=dict)
    entries: dict[object, object] = field(default_factory=dict)
    items: list[object] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Unread:
    """A value that no network needs: a path, a date, a sparse tensor, the state of a generator."""

    kind: str


@dataclass(frozen=True, eq=False)
class Storage:
    """A storage that was not read yet.

    Attributes:
        source: where its bytes lie.
        key: its name there.
        dtype: type of its values.
        values: how many it has.
        start: first value of this view of it.
        total: how many values the whole storage has.
    """

    source: Source
    key: str
    dtype: torch.dtype
    values: int
    start: int = 0
    total: int = -1

    def __post_init__(self) -> None:
        whole_numbers(self.values, self.start)
        if self.total < 0:
            object.__setattr__(self, "total", self.values)
        if self.start + self.values > self.total:
            raise ValueError(f"a view of storage {self.key[:40]!r} ends behind it")

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole storage."""
        return self.total * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that was not read yet: a view of a storage, checked to lie within it.

    Raises:
        ValueError: size, strides or offset do not fit the storage.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def __post_init__(self) -> None:
        whole_numbers(self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or len(self.size) > _MAX_AXES:
            raise ValueError(f"a tensor of {len(self.size)} axes has {len(self.stride)} strides")
        values = math.prod(self.size)
        available = self.storage.values * self.storage.dtype.itemsize // self.dtype.itemsize
        steps = ((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        if values and self.offset + sum(steps) >= available:
            raise ValueError(f"a tensor reaches beyond its storage {self.storage.key[:40]!r}")
        if values > max(available, _MAX_REPEATED):
            raise ValueError(f"a tensor claims more values than its storage {self.storage.key[:40]!r} has")

    def read(self, cache: dict[tuple[int, str], Tensor]) -> Tensor:
        """Read the tensor; tensors that share a storage share memory.

        Args:
            cache: storages that were read, which are reused and added to.

        Raises:
            ValueError: the storage is missing or damaged.
        """
        storage = self.storage
        known = (id(storage.source), storage.key)
        if known not in cache:
            content = bytearray(storage.source.read(storage.key, storage.size_bytes))
            cache[known] = (
                torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
            )
        if not math.prod(self.size):
            return torch.empty(self.size, dtype=self.dtype)
        first = storage.start * storage.dtype.itemsize
        content_of_view = cache[known][first : first + storage.values * storage.dtype.itemsize]
        usable = len(content_of_view) // self.dtype.itemsize * self.dtype.itemsize
        values = content_of_view[:usable].view(self.dtype)
        return values.as_strided(self.size, self.stride, values.storage_offset() + self.offset)


@dataclass(eq=False)
class NumberType:
    """A type of NumPy; None if it is no plain one (objects, records)."""

    dtype: np.dtype[np.generic] | None


@dataclass(eq=False)
class StoredArray:
    """An array of NumPy that was not read yet; ``dtype`` is None until its state is known, or if it is no plain one."""

    content: str | bytes | bytearray = b""
    dtype: np.dtype[np.generic] | None = None
    shape: tuple[int, ...] = ()
    in_columns: bool = False


TensorLike = StoredTensor | StoredArray


def whole_numbers(*values: object) -> None:
    """Refuse everything but numbers from 0 to 2**62.

    Raises:
        ValueError: there is another value.
    """
    for value in values:
        if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
            raise ValueError("a size, stride or offset is no whole number from 0")


class UnhashableKey:
    """A key of a dictionary that is no plain value. Two of them are never equal."""

    def __init__(self, value: object) -> None:
        self.value = value


def plain_key(value: object) -> object:
    """A key that is hashed in constant time: other values are wrapped."""
    if value is None or isinstance(value, str | bytes | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_KEY else UnhashableKey(value)
    if isinstance(value, tuple) and len(value) <= _MAX_KEY_PARTS and all(type(part) in (str, int) for part in value):
        parts = tuple(plain_key(part) for part in value)
        return parts if parts == value else UnhashableKey(value)
    return UnhashableKey(value)


def storage_of(kind: object, key: object, values: object, source: Source) -> Storage:
    """The storage that a pickle names.

    Args:
        kind: reference to its class, as ``torch.FloatStorage``.
        key: its name.
        values: how many values it has.
        source: where its bytes lie.

    Raises:
        ValueError: the class is unknown, or the name or number is none.
    """
    known = isinstance(kind, Reference) and kind.module in ("torch", "torch.cuda", "torch.storage")
    dtype = STORAGE_TYPES.get(kind.name) if known and isinstance(kind, Reference) else None
    whole_numbers(values)
    if dtype is None or not isinstance(key, str) or not isinstance(values, int):
        raise ValueError("a storage has an unknown type or no name")
    return Storage(source, key, dtype, values)
