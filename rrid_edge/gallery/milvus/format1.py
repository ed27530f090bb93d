"""Rows of format 1: read, searched and copied into a new collection, never written.

They know no source, label, track or file time; all belong to the source ``local``. A camera was a whole number. Its
``time`` came from the file name and counted frames, so it is read as the frame number.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryRow, SearchFilter
from rrid_edge.gallery.milvus.schema import (
    KEY,
    KEYS_PER_EXPRESSION,
    NO_ROW,
    VECTOR,
    batches,
    content_id,
    decode_text,
    key_list,
    range_terms,
)
from rrid_edge.gallery.shared import UNKNOWN

_FIELDS = (KEY, "path", "sha256", "size", "mtime_ns", "camera", "person", "time", "crc32", "check32")
_EMPTY = "%"


class Schema1:
    """Rows of format 1."""

    fields = _FIELDS
    all_fields = frozenset((*_FIELDS, VECTOR))

    def key_of(self, row: GalleryRow) -> str:
        """Primary key of a row."""
        return _key(row.path or "")

    def file_key(self, source: str, path: str) -> str:
        """Primary key of a file's row; empty if it belongs to another source than ``local``."""
        return _key(path) if source == LOCAL_SOURCE else ""

    def row_of(self, entity: Mapping[str, Any]) -> GalleryRow | None:
        """The row of an entity, or None if the entity does not match its checksum."""
        person = "" if entity["person"] == _EMPTY else decode_text(entity["person"])
        path = decode_text(entity["path"]) or ""
        camera = None if entity["camera"] == UNKNOWN else int(entity["camera"])
        time = None if entity["time"] == UNKNOWN else int(entity["time"])
        size, mtime_ns, crc32 = int(entity["size"]), int(entity["mtime_ns"]), int(entity["crc32"])
        values = (-1, entity["sha256"], size, mtime_ns, camera, person, time, crc32)
        check = zlib.crc32(os.fsencode(path) + repr(values).encode("utf-8", "surrogateescape"))
        if check != entity["check32"] or _key(path) != entity[KEY]:
            return None
        return GalleryRow(
            path,
            entity["sha256"],
            size,
            mtime_ns,
            None if camera is None else str(camera),
            person or None,
            frame=time,
            id=content_id(entity[KEY], entity["sha256"]),
            crc32=crc32,
        )

    def expression(self, search_filter: SearchFilter) -> str:
        """A filter as a Milvus expression; empty if all rows pass.

        Raises:
            UsageError: it leaves rows out by their ids, which format 1 does not store.
        """
        if search_filter.not_ids:
            raise UsageError("a collection of format 1 stores no ids: leave rows out by their paths (not_files)")
        terms = []
        if search_filter.cameras:
            cameras = _numbers(search_filter.cameras)
            terms.append(f"camera in {cameras}" if cameras else NO_ROW)
        excluded = _numbers(search_filter.not_cameras)
        terms += [f"camera not in {excluded}"] if excluded else []
        if search_filter.sources and LOCAL_SOURCE not in search_filter.sources:
            terms.append(NO_ROW)
        if search_filter.since is not None or search_filter.until is not None:
            terms.append(NO_ROW)
        terms += range_terms("time", search_filter.since_frame, search_filter.until_frame)
        keys = sorted(_key(path) for source, path in search_filter.not_files if source == LOCAL_SOURCE and _key(path))
        terms += [f"{KEY} not in {key_list(batch)}" for batch in batches(keys, KEYS_PER_EXPRESSION)]
        return " and ".join(f"({term})" for term in terms)


def _key(path: str) -> str:
    try:
        return hashlib.sha256(os.fsencode(path)).hexdigest()
    except UnicodeEncodeError:  # no stored row has such a path
        return ""


def _numbers(cameras: Iterable[str]) -> list[int]:
    """Cameras of format 1 among some names."""
    found = []
    for camera in cameras:
        digits = camera.removeprefix("-")
        if digits.isascii() and digits.isdecimal() and len(digits) < 20 and str(int(camera)) == camera:
            found.append(int(camera))
    return sorted(number for number in found if UNKNOWN < number < 2**63)
