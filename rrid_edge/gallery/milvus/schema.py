"""The form of a gallery in Milvus: its columns, its facts, and filters as expressions.

One collection holds one gallery. A row's primary key is the SHA-256 of its path's bytes, so that Milvus spreads rows over
the shards of a collection evenly and a path can only ever be one row. There is no partition key on purpose: a partition by
camera leaves a second row behind when a changed pattern gives a crop another camera, and Milvus 2.3.5 answered equality on
a hashed partition key with 15 of 35 rows after upserts (measured; ranges and plain columns were right). Shards are partitions
by the hash of the primary key, and nothing else is needed for rows to spread.

Paths and persons may hold any bytes. They are stored percent-encoded, as ASCII letters, digits, ``_ . - / %`` only: that
can be read, reversed, and put between the quotes of an expression with nothing to escape.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import GalleryError, ModelFileError, UsageError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow, SearchFilter
from rrid_edge.gallery.shared import UNKNOWN, row_check
from rrid_edge.model.spec import ModelSpec

FORMAT = 1
KEY, VECTOR = "key", "vector"
FACTS = (KEY, "path", "sha256", "size", "mtime_ns", "camera", "person", "time", "crc32", "check32")
"""Columns beside the vector."""
IVF_LISTS = 256
INDEX_TYPES: dict[str, tuple[str, dict[str, int]]] = {
    "flat": ("FLAT", {}),
    "ivf": ("IVF_FLAT", {"nlist": IVF_LISTS}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 256}),
    "diskann": ("DISKANN", {}),
}
"""Kinds of vector index by the names that users give: Milvus' name and how it is built."""
PATH_CHARACTERS = 16_384
_PREFIX = "rrid.gallery."
_NO_PERSON, _EMPTY = "~", "%"
_INT64 = (-(2**63), 2**63 - 1)
_NO_ROW = f'{KEY} == ""'
_KEYS_AT_ONCE = 1000


@dataclass(frozen=True)
class Facts:
    """What a collection says of itself, in its properties.

    Attributes:
        spec: of the model that made the descriptors.
        dtype: precision that values were rounded to before they were stored; Milvus keeps float32.
        index_type: key of :data:`INDEX_TYPES`.
        replicas: copies in the memory of query nodes.
        model: path of the model file used last.
        damaged: keys of rows that a verification found damaged and that were not stored again since.
        rows: rows that are there at least; fewer are counted only where query nodes are missing and Milvus does not say so.
    """

    spec: ModelSpec
    dtype: str = "float16"
    index_type: str = "flat"
    replicas: int = 1
    model: str = ""
    damaged: tuple[str, ...] = ()
    rows: int = 0

    def to_properties(self) -> dict[str, str]:
        """As collection properties."""
        values = {
            "format": str(FORMAT),
            "fingerprint": self.spec.fingerprint,
            "blocks": json.dumps(self.spec.blocks),
            "spec": json.dumps(self.spec.to_metadata()),
            "dtype": self.dtype,
            "index": self.index_type,
            "replicas": str(self.replicas),
            "model": self.model,
            "damaged": json.dumps(self.damaged),
            "rows": str(self.rows),
        }
        return {_PREFIX + key: value for key, value in values.items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], where: str) -> Facts:
        """Read them back.

        Raises:
            GalleryError: not a gallery of ours, of a newer format, or damaged.
        """
        own = {key[len(_PREFIX) :]: value for key, value in properties.items() if key.startswith(_PREFIX)}
        if "format" not in own:
            raise GalleryError(
                f"{where}: this collection is no gallery of rrid-edge (its properties lack {_PREFIX}format); name another "
                "collection, or make one with: rrid-edge index FOLDER --gallery ADDRESS"
            )
        if not own["format"].isdecimal() or int(own["format"]) > FORMAT:
            raise GalleryError(
                f"{where}: gallery format {own['format']} is newer than this rrid-edge reads ({FORMAT}); update rrid-edge"
            )
        try:
            spec = ModelSpec.from_metadata(json.loads(own["spec"]), where=where)
            damaged = tuple(str(key) for key in json.loads(own.get("damaged", "[]")))
            if own["index"] not in INDEX_TYPES or own["fingerprint"] != spec.fingerprint:
                raise ValueError("its entries contradict each other")
            rows = int(own.get("rows", "0"))
            return cls(spec, own["dtype"], own["index"], int(own["replicas"]), own.get("model", ""), damaged, rows)
        except (KeyError, ValueError, ModelFileError) as error:
            raise GalleryError(
                f"{where}: the collection's properties are damaged ({error}); index again with: "
                "rrid-edge index FOLDER --gallery ADDRESS --rebuild"
            ) from error


def property_name(fact: str) -> str:
    """Name of the collection property of a fact."""
    return _PREFIX + fact


def key_of(path: str) -> str:
    """Primary key of a path: the SHA-256 (hex) of its bytes."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def encode_text(text: str) -> str:
    """Any text, surrogate escapes included, as ASCII of a few harmless characters; byte by byte."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="/").replace("~", "%7E")


def decode_text(stored: str) -> str:
    """The text that :func:`encode_text` was given."""
    return unquote_to_bytes(stored).decode("utf-8", "surrogateescape")


def checksum(vector: NDArray[np.float32]) -> int:
    """CRC-32 of a vector (D,) as it is stored: little-endian float32."""
    return zlib.crc32(np.ascontiguousarray(vector, "<f4").tobytes())


def record(row: NewRow, vector: NDArray[np.float32]) -> dict[str, Any]:
    """One row as Milvus takes it.

    Raises:
        UsageError: a camera or time beyond 64 bits, or a path beyond :data:`PATH_CHARACTERS`.
    """
    path = encode_text(row.path)
    numbers = (row.size, row.mtime_ns, row.camera, row.time)
    if len(path) > PATH_CHARACTERS or any(value is not None and not _fits(value) for value in numbers):
        raise UsageError(
            f"{printable(row.path)}: Milvus cannot hold this row: its path is too long, or its camera, time or size is "
            "beyond 64 bits; give another pattern or rename the file",
            parameter="pattern",
        )
    person = _NO_PERSON if row.person is None else encode_text(row.person) or _EMPTY
    crc = checksum(vector)
    return {
        KEY: key_of(row.path),
        "path": path,
        "sha256": row.sha256,
        "size": row.size,
        "mtime_ns": row.mtime_ns,
        "camera": UNKNOWN if row.camera is None else row.camera,
        "person": person,
        "time": UNKNOWN if row.time is None else row.time,
        "crc32": crc,
        "check32": row_check(row, -1, crc),
        VECTOR: np.ascontiguousarray(vector, np.float32),
    }


def row_of(entity: Mapping[str, Any], where: str) -> GalleryRow:
    """The row of a stored entity.

    Raises:
        GalleryError: it does not fit its own checksum.
    """
    stored = entity["person"]
    person = None if stored == _NO_PERSON else "" if stored == _EMPTY else decode_text(stored)
    row = GalleryRow(
        decode_text(entity["path"]),
        entity["sha256"],
        int(entity["size"]),
        int(entity["mtime_ns"]),
        None if entity["camera"] == UNKNOWN else int(entity["camera"]),
        person,
        None if entity["time"] == UNKNOWN else int(entity["time"]),
        crc32=int(entity["crc32"]),
    )
    if row_check(row, -1, row.crc32) != entity["check32"] or key_of(row.path) != entity[KEY]:
        raise GalleryError(
            f"{where}: the entry of {printable(row.path)} is damaged; index again with: "
            "rrid-edge index FOLDER --gallery ADDRESS --rebuild"
        )
    return row


def expression(search_filter: SearchFilter) -> str:
    """A filter as Milvus' expression; empty where all rows pass.

    Unknown cameras and times are stored as :data:`rrid_edge.gallery.shared.UNKNOWN`, which no name gives: Milvus 2.3 has no
    null.
    """
    parts = []
    if search_filter.cameras:
        cameras = sorted(camera for camera in search_filter.cameras if _fits(camera))
        parts.append(f"camera in {cameras}" if cameras else _NO_ROW)
    left_out = sorted(camera for camera in search_filter.not_cameras if _fits(camera) and camera != UNKNOWN)
    if left_out:
        parts.append(f"camera not in {left_out}")
    if search_filter.since is not None or search_filter.until is not None:
        since = max(UNKNOWN + 1, _INT64[0] if search_filter.since is None else search_filter.since)
        until = min(_INT64[1], _INT64[1] if search_filter.until is None else search_filter.until)
        parts.append(f"time >= {since} and time <= {until}" if since <= until else _NO_ROW)
    keys = sorted(key_of(path) for path in search_filter.not_paths)
    parts += [f"{KEY} not in {_quoted(part)}" for part in _cut(keys)]
    return " and ".join(f"({part})" for part in parts)


def key_expressions(keys: Iterable[str], at_once: int = _KEYS_AT_ONCE) -> Iterator[str]:
    """Expressions that together choose the rows of some keys."""
    for part in _cut(sorted(set(keys)), at_once):
        yield f"{KEY} in {_quoted(part)}"


def key_ranges(pieces: int) -> list[tuple[int, int]]:
    """The keys cut into ranges of equal width, as the integers of their first eight digits: [start, stop)."""
    return [((index << 32) // pieces, (index + 1 << 32) // pieces) for index in range(pieces)]


def range_expression(start: int, stop: int) -> str:
    """The rows whose keys lie in a range of :func:`key_ranges`."""
    upper = "" if stop >= 1 << 32 else f' and {KEY} < "{stop:08x}"'
    return f'{KEY} >= "{start:08x}"{upper}'


def both(first: str, second: str) -> str:
    """Two expressions, of which either may be empty, joined by *and*."""
    return f"({first}) and ({second})" if first and second else first or second


def _fits(value: int) -> bool:
    return _INT64[0] <= value <= _INT64[1]


def _quoted(keys: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"


def _cut(keys: Sequence[str], at_once: int = _KEYS_AT_ONCE) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), at_once):
        yield keys[start : start + at_once]
