"""Pushed crops: pictures that cameras and trackers send, stored without a file."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rrid_edge.crops.naming import plain_text
from rrid_edge.crops.thumbnail import MAX_SIDE_PX
from rrid_edge.crops.times import read_time
from rrid_edge.errors import printable
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.shared import accepted_rows
from rrid_edge.json_text import json_text
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.service import Service
from rrid_edge.serve.uploads import EmbeddedUploads, FormPart, Upload, embed_uploads

IMAGE: Final = "image"
FACTS: Final = ("camera", "time", "track", "person")
LONGEST_KEY: Final = 255
_MICROSECONDS: Final = re.compile(r"-?[0-9]{1,19}")
_ISO: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?:[Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)
_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_KEY}}}")


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Attributes:
        upload: the picture.
        camera: name of the camera, or None.
        time: UTC microseconds since 1970, or None.
        track: name of the track, or None.
        person: who it is by what the sender says, or None. It confirms nobody.
        key: of idempotency, or None.
    """

    upload: Upload
    camera: str | None = None
    time: int | None = None
    track: str | None = None
    person: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, parts: Sequence[FormPart], key: str | None) -> Pushed:
        """What a form pushes.

        Raises:
            RequestError: 422, a field is missing, unknown, given twice or refused.
        """
        if key is not None and not _KEY.fullmatch(key):
            raise RequestError(
                f"the idempotency key is refused: expected 1 to {LONGEST_KEY} characters of ASCII without spaces"
            )
        found: dict[str, FormPart] = {}
        for part in parts:
            if part.field in found or part.field not in (IMAGE, *FACTS):
                what = "occurs twice" if part.field in found else "is unknown"
                expected = f"one file {IMAGE!r}, and at most one each of {', '.join(FACTS)}"
                raise RequestError(f"the form's field {printable(part.field[:60])!r} {what}: expected {expected}")
            found[part.field] = part
        image = found.pop(IMAGE, None)
        if image is None or isinstance(image.value, str):
            raise RequestError(f"the form has no file {IMAGE!r}: expected the picture of one person there")
        told = {name: _text(part) or None for name, part in found.items()}
        camera, track, person = told.get("camera"), told.get("track"), told.get("person")
        time_us = _time(told.get("time"))
        # Refuses a field before the engine works.
        accepted_rows([NewRow(None, camera=camera, time=time_us, track=track, person=person)])
        return cls(Upload("the image", image.value), camera, time_us, track, person, key)

    @property
    def sha256(self) -> str:
        """Digest of the picture's bytes, in hex."""
        return hashlib.sha256(self.upload.content).hexdigest()

    @property
    def digest(self) -> str:
        """Digest of the picture and all that is told of it, in hex."""
        told = [self.sha256, self.camera, self.time, self.track, self.person]
        return hashlib.sha256(json_text(told).encode()).hexdigest()


async def push(service: Service, gallery: ServedGallery, pushed: Pushed) -> GalleryRow:
    """Embed a picture and store it; returns its row. The same key and content give the row that is there already.

    The book remembers a key after the row is committed: a kill between the two lets the same push be stored twice.

    Raises:
        RequestError: 403, the gallery is served for reading only; 409, the key was used for another push, or the
            content was forgotten; 429 or 503, the engine has no room, or the gallery is busy.
        ImageError: the picture cannot be decoded, or has too many pixels.
    """
    gallery.refuse_reading()
    known = await service.threads.run(_known, gallery, pushed)
    if known is not None:
        return known
    embedded = await embed_uploads(service, gallery, [pushed.upload], MAX_SIDE_PX)
    row = await service.threads.run(_stored, gallery, pushed, embedded)
    service.followers[gallery.name].added([row.id])
    return row


def _known(gallery: ServedGallery, pushed: Pushed) -> GalleryRow | None:
    """The row of an earlier push of the same key; None if there was none."""
    found = None if pushed.key is None else gallery.book.pushed(pushed.key)
    if found is None:
        return None
    digest, crop = found
    if digest != pushed.digest:
        raise RequestError(
            "this idempotency key was used for another picture, camera, time, track or person: use a new key",
            status=409,
        )
    rows = gallery.store.rows_by_id([crop])
    if not rows:
        raise RequestError(f"crop {crop}, which this idempotency key stored, was forgotten or removed", status=409)
    return rows[0]


def _stored(gallery: ServedGallery, pushed: Pushed, embedded: EmbeddedUploads) -> GalleryRow:
    with gallery.writing() as store:
        known = _known(gallery, pushed)  # another request may have been faster
        if known is not None:
            return known
        row = _add(store, pushed, embedded)
        if pushed.key is not None:
            gallery.book.remember_pushed(pushed.key, pushed.digest, row.id)
    return row


def _add(store: GalleryStore, pushed: Pushed, embedded: EmbeddedUploads) -> GalleryRow:
    digest = pushed.sha256
    if store.kept_out([digest]):
        raise RequestError(
            "this picture was forgotten, and is kept out: let it in again with gallery unforget", status=409
        )
    row = NewRow(
        None,
        sha256=digest,
        size=len(pushed.upload.content),
        mtime_ns=time.time_ns(),  # of adding: retention counts from it if no time is told
        camera=pushed.camera,
        person=pushed.person,
        time=pushed.time,
        track=pushed.track,
        thumbnail=embedded.thumbnail,
    )
    (crop,) = store.add([row], embedded.descriptors)
    (stored,) = store.rows_by_id([crop])
    return stored


def _text(part: FormPart) -> str:
    if not isinstance(part.value, str):
        raise RequestError(f"the form's field {part.field} is a file: expected a text", parameter=part.field)
    return plain_text(part.value)


def _time(text: str | None) -> int | None:
    """The time of a text: UTC microseconds since 1970, or ISO 8601 with a zone.

    Raises:
        RequestError: 422, another text.
    """
    if not text:
        return None
    text = text.strip()
    if _MICROSECONDS.fullmatch(text):
        return int(text)
    found = read_time(text) if _ISO.fullmatch(text) else None
    if found is None:
        raise RequestError(
            f"time {printable(text[:60])!r} is refused: expected ISO 8601 with a zone, such as "
            "2026-11-26T10:00:00.25+01:00, or whole UTC microseconds since 1970",
            parameter="time",
        )
    return found
