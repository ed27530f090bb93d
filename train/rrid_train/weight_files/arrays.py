"""Arrays, numbers and number types of NumPy in a pickle."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from rrid_train.weight_files.records import NumberType, StoredArray, Unread, whole_numbers

_NUMPY_TYPE = re.compile(r"[<>|=]?[biufcSU]\d{0,4}|bool|\?")
_MAX_AXES, _MAX_ARRAY_AXES = 64, 32


def as_bytes(content: object) -> bytes:
    """Bytes, or the text as which Python 2 stored them.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(content, str):
        return content.encode("latin-1")
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    raise ValueError("a value has no bytes")


def as_numbers(values: object) -> tuple[int, ...]:
    """A shape or strides.

    Raises:
        ValueError: these are no whole numbers from 0, or too many.
    """
    if not isinstance(values, tuple | list) or len(values) > _MAX_AXES:
        raise ValueError("a shape is no short list of numbers")
    whole_numbers(*values)
    return tuple(values)


def number_type(name: object, *_flags: object) -> NumberType:
    """``numpy.dtype(name)``, for plain numbers and texts."""
    if not isinstance(name, str) or not _NUMPY_TYPE.fullmatch(name):
        return NumberType(None)
    try:
        return NumberType(np.dtype(name))
    except TypeError as error:
        raise ValueError("a type of NumPy is unknown") from error


def set_byte_order(target: NumberType, state: object) -> None:
    """Give a type the byte order of its state."""
    if not isinstance(state, tuple) or len(state) < 2:
        raise ValueError("a type of NumPy is damaged")
    if state[1] in (">", b">") and target.dtype is not None:
        target.dtype = target.dtype.newbyteorder(">")


def empty_array(*_arguments: object) -> StoredArray:
    """``numpy.core.multiarray._reconstruct``: an array whose state follows."""
    return StoredArray()


def set_array(target: StoredArray, state: object) -> None:
    """Give an array its shape, type and values."""
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], NumberType):
        raise ValueError("an array is damaged")
    _version, shape, kind, in_columns, content = state
    if kind.dtype is not None and not isinstance(content, list):
        _set(target, content, kind.dtype, shape, in_columns=bool(in_columns))


def array_from_buffer(content: object, kind: object, shape: object, order: object) -> StoredArray:
    """``numpy.core.numeric._frombuffer``, which protocol 5 uses."""
    if not isinstance(kind, NumberType):
        raise ValueError("an array is damaged")
    array = StoredArray()
    if kind.dtype is not None:
        _set(array, content, kind.dtype, shape, in_columns=order == "F")
    return array


def _set(target: StoredArray, content: object, dtype: np.dtype[np.generic], shape: object, *, in_columns: bool) -> None:
    sizes = as_numbers(shape)
    if not isinstance(content, str | bytes | bytearray) or dtype.itemsize == 0 or len(sizes) > _MAX_ARRAY_AXES:
        raise ValueError("an array is damaged")
    if math.prod(sizes) * dtype.itemsize != len(content):
        raise ValueError("an array has another size than its shape")
    target.content, target.dtype, target.shape, target.in_columns = content, dtype, sizes, in_columns


def read_array(stored: StoredArray) -> NDArray[np.generic]:
    """The values of an array, in this machine's byte order.

    Raises:
        ValueError: it holds no numbers.
    """
    if stored.dtype is None or stored.dtype.kind not in "biuf":
        raise ValueError("an array of objects or texts is no tensor")
    values = np.frombuffer(as_bytes(stored.content), stored.dtype)
    shaped = values.reshape(stored.shape, order="F" if stored.in_columns else "C")
    return shaped.astype(stored.dtype.newbyteorder("="), order="C")


def scalar(kind: object, *content: object) -> object:
    """A number of NumPy as a number of Python."""
    if not isinstance(kind, NumberType) or kind.dtype is None or kind.dtype.kind not in "biuf" or not content:
        return Unread("numpy.core.multiarray.scalar")
    return read_array(array_from_buffer(content[0], kind, (1,), "C"))[0].item()
