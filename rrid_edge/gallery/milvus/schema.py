"""The schema of a gallery in Milvus: fields, keys and filter expressions.

One collection holds one gallery. A file's primary key is the SHA-256 of its source and path; that of a crop without a
file, of its id. Texts are stored percent-encoded. The reasons, and why no partition key is used:
``docs/decisions/milvus-gallery.md``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow, SearchFilter
from rrid_edge.gallery.shared import UNKNOWN, row_check

KEY, VECTOR, THUMBNAIL = "key", "vector", "thumbnail"
TEXT_CHARACTERS = 16_384
"""Longest path or name, percent-encoded."""
THUMBNAIL_CHARACTERS = 65_535
"""Longest thumbnail, as base64: 48 KB of JPEG."""
TEXT_FIELDS = {
    KEY: 64,
    "path": TEXT_CHARACTERS,
    "source": TEXT_CHARACTERS,
    "sha256": 64,
    "camera": TEXT_CHARACTERS,
    "person": TEXT_CHARACTERS,
    "track": TEXT_CHARACTERS,
    "label": TEXT_CHARACTERS,
    THUMBNAIL: THUMBNAIL_CHARACTERS,
}
"""Text fields and their longest values."""
INTEGER_FIELDS = ("row_id", "path_id", "size", "mtime_ns", "time", "frame", "crc32", "check32")
SCALAR_FIELDS = tuple(name for name in (*TEXT_FIELDS, *INTEGER_FIELDS) if name != THUMBNAIL)
"""Fields of a row as reads ask for them."""
NO_ROW = f'{KEY} == ""'
_NO_TEXT = "~"
_NAMES = ("camera", "person", "track", "label")
_NUMBERS = ("time", "frame")
_INT64 = (-(2**63), 2**63 - 1)
KEYS_PER_EXPRESSION = 1000


class Schema(Protocol):
    """How rows of one format lie in a collection."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of a row as reads ask for them, without vector and thumbnail."""
        ...

    @property
    def all_fields(self) -> frozenset[str]:
        """All fields of the collection."""
        ...

    def key_of(self, row: GalleryRow) -> str:
        """Primary key of a row."""
        ...

    def file_key(self, source: str, path: str) -> str:
        """Primary key of a file's row, or an empty text if no file has this name."""
        ...

    def row_of(self, entity: Mapping[str, Any]) -> GalleryRow | None:
        """The row of an entity, or None if the entity does not match its checksum."""
        ...

    def expression(self, search_filter: SearchFilter) -> str:
        """A filter as a Milvus expression; empty if all rows pass."""
        ...


class Schema2:
    """Rows of format 2."""

    fields = SCALAR_FIELDS
    all_fields = frozenset((*TEXT_FIELDS, *INTEGER_FIELDS, VECTOR))

    def key_of(self, row: GalleryRow) -> str:
        """Primary key of a row."""
        return memory_key(row.id) if row.path is None else self.file_key(row.source, row.path)

    def file_key(self, source: str, path: str) -> str:
        """Primary key of a file's row, or an empty text if no file has this name."""
        return _possible_key((source, path))

    def row_of(self, entity: Mapping[str, Any]) -> GalleryRow | None:
        """The row of an entity, or None if the entity does not match its checksum."""
        try:
            texts = {name: decode_text(entity[name]) for name in ("path", "source", *_NAMES)}
        except ValueError:
            return None
        numbers = {name: None if entity[name] == UNKNOWN else int(entity[name]) for name in _NUMBERS}
        row = GalleryRow(
            **{**texts, "source": texts["source"] or ""},  # type: ignore[arg-type]
            **numbers,  # type: ignore[arg-type]
            sha256=entity["sha256"],
            size=int(entity["size"]),
            mtime_ns=int(entity["mtime_ns"]),
            id=int(entity["row_id"]),
            crc32=int(entity["crc32"]),
        )
        derived = (row_check(row), path_id(row.path), self.key_of(row))
        return row if derived == (entity["check32"], entity["path_id"], entity[KEY]) else None

    def expression(self, search_filter: SearchFilter) -> str:
        """A filter as a Milvus expression; empty if all rows pass.

        Milvus 2.3 has no null, so unknown names are stored as ``~`` and unknown numbers as
        :data:`rrid_edge.gallery.shared.UNKNOWN`.
        """
        terms = []
        for name, values in (("camera", search_filter.cameras), ("source", search_filter.sources)):
            if values:
                terms.append(names_expression(name, values) or NO_ROW)
        excluded = names_expression("camera", search_filter.not_cameras, negate=True)
        terms += [excluded] if excluded else []
        terms += range_terms("time", search_filter.since, search_filter.until)
        terms += range_terms("frame", search_filter.since_frame, search_filter.until_frame)
        keys = sorted(key for key in map(_possible_key, search_filter.not_files) if key)
        terms += [f"{KEY} not in {key_list(batch)}" for batch in batches(keys, KEYS_PER_EXPRESSION)]
        ids = sorted(id_ for id_ in search_filter.not_ids if _INT64[0] <= id_ <= _INT64[1])
        terms += [f"row_id not in {batch}" for batch in batches(ids, KEYS_PER_EXPRESSION)]
        return " and ".join(f"({term})" for term in terms)


def file_key(source: str, path: str) -> str:
    """Primary key of a file: the SHA-256 (hex) of the bytes of source and path."""
    named = _bytes(source)
    return hashlib.sha256(b"file %d %b%b" % (len(named), named, _bytes(path))).hexdigest()


def memory_key(row_id: int) -> str:
    """Primary key of a crop without a file: the SHA-256 (hex) of its id."""
    return hashlib.sha256(b"memory %d" % row_id).hexdigest()


def content_id(key: str, sha256: str) -> int:
    """Id of a file's row: 63 bits of the SHA-256 of key and content. Every indexer of the file finds the same."""
    return _hashed63(f"{key} {sha256}".encode())


def random_id() -> int:
    """Id of a new crop without a file: 63 random bits."""
    return secrets.randbits(63)


def path_id(path: str | None) -> int:
    """A number to look a path up by, whatever its source: 63 bits of the SHA-256; -1 without a path."""
    try:
        return -1 if path is None else _hashed63(_bytes(path))
    except UnicodeEncodeError:  # no stored row has such a path
        return -2


def _hashed63(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _possible_key(file: tuple[str, str]) -> str:
    """The key of a file, or an empty text if no file has this name."""
    try:
        return file_key(*file)
    except UnicodeEncodeError:
        return ""


def encode_text(text: str | None) -> str:
    """Percent-encode text byte by byte. The result needs no escaping in an expression; surrogate escapes are kept."""
    return _NO_TEXT if text is None else quote_from_bytes(_bytes(text), safe="/").replace("~", "%7E")


def decode_text(stored: str) -> str | None:
    """Invert :func:`encode_text`."""
    return None if stored == _NO_TEXT else unquote_to_bytes(stored).decode("utf-8", "surrogateescape")


def checksum(vector: NDArray[np.float32]) -> int:
    """CRC-32 of a vector (D,) as little-endian float32."""
    return zlib.crc32(np.ascontiguousarray(vector, "<f4").tobytes())


def refuse_unstorable(rows: Sequence[NewRow]) -> None:
    """Refuse rows that Milvus cannot hold.

    Raises:
        UsageError: a text is too long or has no bytes, or a thumbnail is too large.
    """
    for row in rows:
        try:
            longest = max(len(encode_text(getattr(row, name))) for name in ("path", "source", *_NAMES))
        except UnicodeEncodeError:
            longest = TEXT_CHARACTERS + 1
        if longest > TEXT_CHARACTERS or 4 * len(row.thumbnail or b"") > 3 * (THUMBNAIL_CHARACTERS - 4):
            raise UsageError(
                f"{printable(row.path or 'a crop')[:200]}: Milvus cannot hold this row; expected texts of at most "
                f"{TEXT_CHARACTERS:,} characters, percent-encoded, and a thumbnail of at most 48 KB",
                parameter="rows",
            )


def record(row: GalleryRow, vector: NDArray[np.float32], thumbnail: str = "") -> dict[str, Any]:
    """The entity of a row and its vector (D,).

    Args:
        row: with its id.
        vector: float32 (D,).
        thumbnail: in its stored form, where the row carries none.
    """
    row = replace(row, crc32=checksum(vector), slot=-1)
    return {
        KEY: Schema2().key_of(row),
        **{name: encode_text(getattr(row, name)) for name in ("path", "source", *_NAMES)},
        **{name: UNKNOWN if getattr(row, name) is None else getattr(row, name) for name in _NUMBERS},
        "sha256": row.sha256,
        "row_id": row.id,
        "path_id": path_id(row.path),
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "crc32": row.crc32,
        "check32": row_check(row),
        THUMBNAIL: thumbnail if row.thumbnail is None else base64.b64encode(row.thumbnail).decode(),
        VECTOR: np.ascontiguousarray(vector, np.float32),
    }


def thumbnail_of(entity: Mapping[str, Any]) -> bytes:
    """The thumbnail (JPEG) of an entity; empty if it has none or a damaged one."""
    try:
        return base64.b64decode(entity[THUMBNAIL], validate=True)
    except (binascii.Error, ValueError):
        return b""


def names_expression(field: str, values: Iterable[str], *, negate: bool = False) -> str:
    """An expression that matches rows by a name; empty if no row can have one of the values."""
    texts = []
    for value in values:
        try:
            texts.append(encode_text(value))
        except UnicodeEncodeError:
            continue  # no stored row has such a name
    return f"{field} {'not in' if negate else 'in'} {key_list(sorted(texts))}" if texts else ""


def range_terms(field: str, first: int | None, last: int | None) -> list[str]:
    """Terms that match rows by a number between two, both included; none if both are None."""
    if first is None and last is None:
        return []
    start = max(UNKNOWN + 1, _INT64[0] if first is None else first)
    stop = min(_INT64[1], _INT64[1] if last is None else last)
    return [f"{field} >= {start} and {field} <= {stop}" if start <= stop else NO_ROW]


def key_expressions(keys: Iterable[str], most_keys: int = KEYS_PER_EXPRESSION) -> Iterator[str]:
    """Expressions that together match the rows of some keys, each with at most ``most_keys`` keys."""
    for batch in batches(sorted(set(keys)), most_keys):
        yield f"{KEY} in {key_list(batch)}"


def number_expressions(field: str, values: Iterable[int], most: int = KEYS_PER_EXPRESSION) -> Iterator[str]:
    """Expressions that together match the rows of some numbers, each with at most ``most`` of them."""
    for batch in batches(sorted({value for value in values if _INT64[0] < value <= _INT64[1]}), most):
        yield f"{field} in {list(batch)}"


def key_list(keys: Sequence[str]) -> str:
    """Texts as a list of an expression."""
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"


def batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of at most ``size`` values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
