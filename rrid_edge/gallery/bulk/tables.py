"""Tables of crops: which columns a table of Parquet may have, and the crops of its rows. Needs pyarrow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa

from rrid_edge.errors import UsageError
from rrid_edge.gallery.bulk.records import CropBatch

PATH, IMAGE = "path", "image"
SIZE, MTIME = "size", "mtime_ns"
"""Columns of a listing, beside :data:`PATH`."""
_NAMES: Final = ("camera", "person", "track", "label")


def _is_text(kind: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:  # noqa: ANN401
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_name(kind: Any) -> bool:  # noqa: ANN401
    return _is_text(kind) or bool(pa.types.is_integer(kind))


def _is_time(kind: Any) -> bool:  # noqa: ANN401
    return bool(pa.types.is_timestamp(kind) or pa.types.is_integer(kind))


_COLUMNS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    PATH: (lambda kind: _is_text(kind) or _is_bytes(kind), "text"),
    IMAGE: (_is_bytes, "binary: the bytes of an image file"),
    **dict.fromkeys(_NAMES, (_is_name, "text or whole numbers")),
    "time": (_is_time, "timestamps, or whole UTC microseconds since 1970"),
    "frame": (lambda kind: bool(pa.types.is_integer(kind)), "whole numbers"),
}
"""Columns that are read: whether a type fits, and what is expected."""


def read_columns(schema: Any, where: str) -> list[str]:  # noqa: ANN401
    """The columns of a table that are read.

    Args:
        schema: a ``pyarrow.Schema``.
        where: the table as messages name it.

    Raises:
        UsageError: neither ``path`` nor ``image`` is among them, or one has another type.
    """
    found = [name for name in _COLUMNS if name in schema.names]
    if PATH not in found and IMAGE not in found:
        raise UsageError(
            f"{where}: the table has neither a column 'path' nor a column 'image' (columns: "
            f"{', '.join(schema.names)[:200] or 'none'}); expected image files by path, or their bytes",
            parameter="input",
        )
    for name in found:
        fits, expected = _COLUMNS[name]
        kind = schema.field(name).type
        if not fits(kind):
            raise UsageError(f"{where}: column {name!r} has type {kind}; expected {expected}", parameter="input")
    return found


def crops_of(table: Any, root: str = "") -> CropBatch:  # noqa: ANN401
    """The crops of some rows of a table or a listing.

    A row without a path is named by the SHA-256 of its image. A name is relative to the source, so leading slashes are
    dropped, and an absolute path below ``root`` loses it.

    Args:
        table: a ``pyarrow.Table`` or ``RecordBatch`` with columns of :func:`read_columns`, or of a listing.
        root: folder of the files.
    """
    columns = {name: _values(table.column(name), name) for name in table.schema.names}
    images = columns.get(IMAGE)
    contents: dict[str, bytes] = {}
    states, facts, failed, seen = {}, {}, [], dict[str, None]()
    kept = [name for name in columns if name not in (PATH, IMAGE, SIZE, MTIME)]
    for index in range(table.num_rows):
        image = images[index] if images else None
        name, problem = _name(columns.get(PATH), index, image, root)
        if not problem and name in seen:
            problem = "this path occurs twice in the input; give each crop a path of its own"
        if not problem and images and not image:
            problem = "the table has no image bytes in this row; fill them in, or leave the row out"
        if problem:
            failed.append((name, problem))
            continue
        seen[name] = None
        facts[name] = {column: columns[column][index] for column in kept}
        if image:
            contents[name] = image
        if SIZE in columns:
            states[name] = (columns[SIZE][index], columns[MTIME][index])
    return CropBatch(tuple(seen), contents if images is not None else None, states, facts, tuple(failed))


def _values(column: Any, name: str) -> list[Any]:  # noqa: ANN401
    """The values of a column; times as UTC microseconds, paths as text."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    values: list[Any] = column.to_pylist()
    if name == PATH and _is_bytes(column.type):  # a name of a disk may be no Unicode text
        values = [None if value is None else os.fsdecode(value) for value in values]
    return values


def _name(paths: list[Any] | None, index: int, image: bytes | None, root: str) -> tuple[str, str]:
    """The name of a row's crop, and why it cannot be used; empty if it can."""
    path = paths[index] if paths else None
    if not path:
        if image:
            return f"sha256/{hashlib.sha256(image).hexdigest()}", ""
        return f"row {index} of a batch", "the table has neither a path nor image bytes in this row; leave the row out"
    if root and path.startswith(root.rstrip("/") + "/"):
        path = path[len(root.rstrip("/")) :]
    if "\0" in path or ".." in PurePosixPath(path).parts:
        return path, "this path leads out of its folder; expected a path below the table's folder"
    name = PurePosixPath("/" + path.lstrip("/")).relative_to("/").as_posix()
    return (name, "") if name != "." else (path, "this path names no file; expected the path of a crop")
