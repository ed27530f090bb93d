"""The schema of a gallery in Milvus: fields, properties and filter expressions.

One collection holds one gallery. A row's primary key is the SHA-256 of its path. Paths and persons are stored
percent-encoded. The reasons, and why no partition key is used: ``docs/decisions/milvus-gallery.md``.
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
SCALAR_FIELDS = (KEY, "path", "sha256", "size", "mtime_ns", "camera", "person", "time", "crc32", "check32")
"""All fields except the vector."""
IVF_LISTS = 256
INDEX_TYPES: dict[str, tuple[str, dict[str, int]]] = {
    "flat": ("FLAT", {}),
    "ivf": ("IVF_FLAT", {"nlist": IVF_LISTS}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 256}),
    "diskann": ("DISKANN", {}),
}
"""Index types by the names that users give: Milvus' name and its build parameters."""
PATH_CHARACTERS = 16_384
"""Longest path or person, percent-encoded."""
_PREFIX = "rrid.gallery."
_NO_PERSON, _EMPTY = "~", "%"
_INT64 = (-(2**63), 2**63 - 1)
_NO_ROW = f'{KEY} == ""'
_KEYS_PER_EXPRESSION = 1000


@dataclass(frozen=True)
class CollectionFacts:
    """The facts of a gallery, stored in the properties of its collection.

    Attributes:
        spec: of the model that made the descriptors.
        dtype: values were rounded to this type before they were stored; Milvus stores float32.
        index_type: key of :data:`INDEX_TYPES`.
        replicas: replicas in the memory of query nodes.
        model: path of the model file used last.
        damaged: keys of damaged rows that a verification found and that were not stored again since.
        rows: lower bound of the number of rows. A smaller count means that query nodes are missing, which Milvus does
            not report.
    """

    spec: ModelSpec
    dtype: str = "float16"
    index_type: str = "flat"
    replicas: int = 1
    model: str = ""
    damaged: tuple[str, ...] = ()
    rows: int = 0

    def to_properties(self) -> dict[str, str]:
        """Collection properties: text by name."""
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
    def from_properties(cls, properties: Mapping[str, str], where: str) -> CollectionFacts:
        """Parse collection properties.

        Raises:
            GalleryError: the collection is not a gallery, has a newer format, or its properties are damaged.
        """
        texts = {key[len(_PREFIX) :]: value for key, value in properties.items() if key.startswith(_PREFIX)}
        if "format" not in texts:
            raise GalleryError(
                f"{where}: this collection is not a gallery of rrid-edge (it has no property {_PREFIX}format); name "
                "another collection, or create one with: rrid-edge index FOLDER --gallery ADDRESS"
            )
        if not texts["format"].isdecimal() or int(texts["format"]) > FORMAT:
            raise GalleryError(
                f"{where}: gallery format {texts['format']} is newer than this rrid-edge reads ({FORMAT}); update "
                "rrid-edge"
            )
        try:
            spec = ModelSpec.from_metadata(json.loads(texts["spec"]), where=where)
            damaged = tuple(str(key) for key in json.loads(texts.get("damaged", "[]")))
            if texts["index"] not in INDEX_TYPES or texts["fingerprint"] != spec.fingerprint:
                raise ValueError("its entries contradict each other")
            rows, replicas = int(texts.get("rows", "0")), int(texts["replicas"])
            return cls(spec, texts["dtype"], texts["index"], replicas, texts.get("model", ""), damaged, rows)
        except (KeyError, ValueError, ModelFileError) as error:
            raise GalleryError(
                f"{where}: the collection's properties are damaged ({error}); index again with: "
                "rrid-edge index FOLDER --gallery ADDRESS --rebuild"
            ) from error


def property_name(fact: str) -> str:
    """Name of the collection property that stores a fact."""
    return _PREFIX + fact


def key_of(path: str) -> str:
    """Primary key of a path: the SHA-256 (hex) of its bytes."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def encode_text(text: str) -> str:
    """Percent-encode text byte by byte. The result needs no escaping in an expression; surrogate escapes are kept."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="/").replace("~", "%7E")


def decode_text(stored: str) -> str:
    """Invert :func:`encode_text`."""
    return unquote_to_bytes(stored).decode("utf-8", "surrogateescape")


def checksum(vector: NDArray[np.float32]) -> int:
    """CRC-32 of a vector (D,) as little-endian float32."""
    return zlib.crc32(np.ascontiguousarray(vector, "<f4").tobytes())


def record(row: NewRow, vector: NDArray[np.float32]) -> dict[str, Any]:
    """The entity of a row and its vector (D,).

    Raises:
        UsageError: the camera, time or size needs more than 64 bits, or the path is longer than
            :data:`PATH_CHARACTERS`.
    """
    path = encode_text(row.path)
    numbers = (row.size, row.mtime_ns, row.camera, row.time)
    if len(path) > PATH_CHARACTERS or any(value is not None and not _fits(value) for value in numbers):
        raise UsageError(
            f"{printable(row.path)}: Milvus cannot hold this row; expected a path of at most {PATH_CHARACTERS:,} "
            "encoded characters, and a camera, time and size of 64 bits: rename the file or give another pattern",
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
        GalleryError: the row does not match its checksum.
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
    """A filter as a Milvus expression; empty if all rows pass.

    Milvus 2.3 has no null, so unknown cameras and times are stored as :data:`rrid_edge.gallery.shared.UNKNOWN`.
    """
    terms = []
    if search_filter.cameras:
        cameras = sorted(camera for camera in search_filter.cameras if _fits(camera))
        terms.append(f"camera in {cameras}" if cameras else _NO_ROW)
    excluded = sorted(camera for camera in search_filter.not_cameras if _fits(camera) and camera != UNKNOWN)
    if excluded:
        terms.append(f"camera not in {excluded}")
    if search_filter.since is not None or search_filter.until is not None:
        since = max(UNKNOWN + 1, _INT64[0] if search_filter.since is None else search_filter.since)
        until = min(_INT64[1], _INT64[1] if search_filter.until is None else search_filter.until)
        terms.append(f"time >= {since} and time <= {until}" if since <= until else _NO_ROW)
    keys = sorted(key_of(path) for path in search_filter.not_paths)
    terms += [f"{KEY} not in {_key_list(batch)}" for batch in _batches(keys, _KEYS_PER_EXPRESSION)]
    return " and ".join(f"({term})" for term in terms)


def key_expressions(keys: Iterable[str], most_keys: int = _KEYS_PER_EXPRESSION) -> Iterator[str]:
    """Expressions that together match the rows of some keys, each with at most ``most_keys`` keys."""
    for batch in _batches(sorted(set(keys)), most_keys):
        yield f"{KEY} in {_key_list(batch)}"


def key_ranges(count: int) -> list[tuple[int, int]]:
    """``count`` key ranges of equal width: [start, stop), as the integer value of a key's first eight hex digits."""
    return [((index << 32) // count, (index + 1 << 32) // count) for index in range(count)]


def range_expression(start: int, stop: int) -> str:
    """An expression that matches the rows whose keys lie in a range of :func:`key_ranges`."""
    upper = "" if stop >= 1 << 32 else f' and {KEY} < "{stop:08x}"'
    return f'{KEY} >= "{start:08x}"{upper}'


def and_expression(first: str, second: str) -> str:
    """The conjunction of two expressions; an empty expression matches all rows."""
    return f"({first}) and ({second})" if first and second else first or second


def _fits(value: int) -> bool:
    return _INT64[0] <= value <= _INT64[1]


def _key_list(keys: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{key}"' for key in keys) + "]"


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
