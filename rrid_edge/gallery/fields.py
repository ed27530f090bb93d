"""Values that callers of the library give: fields of rows, ids, times, thumbnails, descriptors."""

from __future__ import annotations

import time
from collections.abc import Iterable, Set
from datetime import datetime, timedelta, timezone
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.images import load_rgb
from rrid_edge.crops.naming import camera_name, plain_text
from rrid_edge.crops.thumbnail import is_thumbnail, thumbnail_of
from rrid_edge.crops.times import Bound, parse_bound
from rrid_edge.embedding.arrays import Color, each_image, is_tensor, rgb_image, to_numpy
from rrid_edge.errors import UsageError
from rrid_edge.gallery.shared import accepted_descriptors

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def descriptors_of(descriptors: object, dimension: int) -> NDArray[np.float32]:
    """Descriptors as float32 (N, dimension).

    Args:
        descriptors: (N, dimension), or (dimension,) for one, of any floating-point type: array, tensor or lists.
        dimension: values per descriptor.

    Raises:
        UsageError: the shape or type is wrong, a value is not finite, or a length is not 1.
    """
    try:
        array = to_numpy(descriptors) if is_tensor(descriptors) else np.asarray(descriptors)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"descriptors of unequal lengths or types: expected floating-point numbers, shape (N, {dimension})",
            parameter="descriptors",
        ) from error
    if array.shape == (0,):
        return np.empty((0, dimension), np.float32)
    if array.ndim == 1:
        array = array[None]
    return accepted_descriptors(array, len(array) if array.ndim else 1, dimension)


def per_row(field: str, value: object, count: int) -> list[Any]:
    """A field of ``count`` rows.

    Args:
        field: its name, for errors.
        value: one value for all rows, or a sequence of one per row.
        count: number of rows.

    Raises:
        UsageError: the sequence has another length, or no order.
    """
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "mM":
        raise UsageError(
            f"{field} of type {value.dtype}: expected datetimes with a time zone, or UTC microseconds since 1970",
            parameter=field,
        )
    if hasattr(value, "tolist"):  # arrays, tensors, columns of pandas, numbers of NumPy
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return [value] * count
    values = [] if isinstance(value, (dict, Set)) else list(value)
    if len(values) != count:
        seen = f"{len(values)} values" if not isinstance(value, (dict, Set)) else f"a {type(value).__name__}"
        raise UsageError(
            f"{field}: {seen} for {count} rows; expected one value for all rows, or a list of one per row",
            parameter=field,
        )
    return values


def microseconds(field: str, value: object) -> int | None:
    """A time in UTC microseconds since 1970, or None.

    Args:
        field: its name, for errors.
        value: a datetime with a time zone, whole UTC microseconds, or None.

    Raises:
        UsageError: a datetime without a time zone, or another type.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        try:
            if value.utcoffset() is not None:
                return int((value - _EPOCH) // timedelta(microseconds=1))
        except (ValueError, TypeError, OverflowError) as error:  # pandas' NaT is a datetime
            raise UsageError(
                f"{field} {value!r} is no time ({error}): expected one, or None", parameter=field
            ) from error
        raise UsageError(
            f"{field} {value.isoformat(sep=' ')} has no time zone: expected an aware datetime, for example "
            "datetime.now(timezone.utc)",
            parameter=field,
        )
    is_whole = isinstance(value, Integral) and not isinstance(value, (bool, np.timedelta64))
    if not is_whole:
        raise UsageError(
            f"{field} {value!r} of type {type(value).__name__}: expected a datetime with a time zone, or whole UTC "
            "microseconds since 1970; seconds as time.time() gives them are int(seconds * 1_000_000)",
            parameter=field,
        )
    return int(value)  # type: ignore[call-overload,no-any-return]


def bound_of(field: str, value: object) -> Bound:
    """The first or last time, or frame, of a search; see :func:`rrid_edge.crops.times.parse_bound` for texts.

    Args:
        field: ``since`` or ``until``.
        value: a datetime with a time zone, whole UTC microseconds, a text, or None.

    Raises:
        UsageError: a datetime without a time zone, a text that is no time, or another type.
    """
    if isinstance(value, str):
        return parse_bound(value, time.time_ns() // 1000, is_last=field == "until")
    return Bound(time=microseconds(field, value))


def names_of(field: str, values: object) -> frozenset[str]:
    """Names of a filter, such as cameras, as stores keep them; None means no names.

    Args:
        field: ``cameras`` or ``sources``, for errors.
        values: a name, a whole number, or an iterable of them.

    Raises:
        UsageError: a value is neither text nor a whole number.
    """
    if values is None:
        return frozenset()
    if hasattr(values, "tolist"):
        values = values.tolist()
    given = [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
    names = {_name(value) for value in given}
    if not given or None in names:
        raise UsageError(f"{field} {given!r}: expected names or whole numbers; None lets all pass", parameter=field)
    return frozenset(name for name in names if name is not None)


def camera_names(texts: Iterable[str]) -> frozenset[str]:
    """Cameras that people wrote, as rows may name them.

    File names lose the zeros of ``01``; rows that came through the library keep them. Bytes that are no UTF-8 are
    escaped, as those of file names are.
    """
    return frozenset(name for text in texts for name in (plain_text(text), camera_name(text)) if name is not None)


def _name(value: object) -> str | None:
    """A name, or a whole number as text; None for anything else."""
    if isinstance(value, str):
        return str.__str__(value)
    return str(int(value)) if isinstance(value, Integral) and not isinstance(value, bool) else None


def ids_of(rows: object, *, paths: bool = False) -> list[int | str]:
    """Ids of rows as Python numbers.

    Args:
        rows: an id, or an iterable of ids.
        paths: texts are accepted too; they are paths of crops.

    Raises:
        UsageError: another type.
    """
    if hasattr(rows, "tolist"):
        rows = rows.tolist()
    given = [rows] if isinstance(rows, str) or not isinstance(rows, Iterable) else list(rows)
    found: list[int | str] = []
    for value in given:
        if isinstance(value, Integral) and not isinstance(value, bool):
            found.append(int(value))
        elif paths and isinstance(value, str):
            found.append(value)
        else:
            kinds = "ids of rows, or paths" if paths else "ids of rows, whole numbers"
            raise UsageError(f"{value!r} of type {type(value).__name__}: expected {kinds}", parameter="ids")
    return found


def thumbnails_of(thumbnails: object, count: int, color: Color) -> list[bytes | None]:
    """Thumbnails of ``count`` rows, as JPEG.

    Args:
        thumbnails: one per row, each the bytes of a JPEG image, a Pillow image, a uint8 array (H, W, 3) or None. One
            array may hold them all, and one picture is enough for one row. None means no thumbnails.
        count: number of rows.
        color: order of the channels of arrays: ``rgb`` or ``bgr``.

    Raises:
        UsageError: the number or a type is wrong.
        ImageError: a picture cannot be decoded.
    """
    if thumbnails is None:
        return [None] * count
    given = [thumbnails] if isinstance(thumbnails, bytes) else list(each_image(thumbnails))
    if len(given) != count:
        raise UsageError(
            f"thumbnails: {len(given)} pictures for {count} rows; expected one per row, or None", parameter="thumbnails"
        )
    named = ((f"thumbnail {index}", picture) for index, picture in enumerate(given))
    return [None if picture is None else _thumbnail(picture, name, color) for name, picture in named]


def _thumbnail(picture: object, name: str, color: Color) -> bytes:
    if not isinstance(picture, bytes):
        return thumbnail_of(rgb_image(picture, name, color))
    image = load_rgb(name, picture)
    return picture if is_thumbnail(picture, image) else thumbnail_of(image)
