"""Crops as the answers of all routes show them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from pydantic import BaseModel

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.json_text import text_of_name
from rrid_edge.serve.addresses import Addresses
from rrid_edge.serve.galleries import ServedGallery

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class PersonName(BaseModel):
    """A person that a user confirmed."""

    id: str
    name: str


class Crop(BaseModel):
    """A crop of a gallery."""

    id: int
    gallery: str
    path: str | None
    source: str
    camera: str | None
    time: str | None
    frame: int | None
    track: str | None
    told: str | None
    person: PersonName | None
    thumbnail: str
    image: str


def crops_of(gallery: ServedGallery, rows: Sequence[GalleryRow], addresses: Addresses) -> list[Crop]:
    """Rows as answers show them, in their order. Reads the book, so not on the event loop.

    Args:
        gallery: of the rows.
        rows: to show.
        addresses: of this service.
    """
    labels = {row.label for row in rows if row.label is not None}
    ids = gallery.book.person_ids(labels) if labels else {}
    return [_crop(gallery.name, row, addresses, ids) for row in rows]


def crop_of(gallery: ServedGallery, row: GalleryRow, addresses: Addresses) -> Crop:
    """One row; see :func:`crops_of`."""
    return crops_of(gallery, [row], addresses)[0]


def _crop(gallery: str, row: GalleryRow, addresses: Addresses, ids: dict[str, str]) -> Crop:
    label = row.label
    return Crop(
        id=row.id,
        gallery=gallery,
        path=_text(row.path),
        source=text_of_name(row.source),
        camera=_text(row.camera),
        time=None if row.time is None else shown_time(row.time),
        frame=row.frame,
        track=_text(row.track),
        told=_text(row.person),
        person=None if label is None else PersonName(id=ids[label], name=text_of_name(label)),
        thumbnail=addresses.thumbnail(gallery, row.id),
        image=addresses.image(gallery, row.id),
    )


def _text(name: str | None) -> str | None:
    """A name as text that JSON can hold; bytes of file names that are no UTF-8 become private characters."""
    return None if name is None else text_of_name(name)


def shown_time(time_us: int) -> str:
    """A time as ISO 8601 in UTC with six digits of the second, such as ``2026-11-26T10:00:00.000000Z``.

    A time before the year 1 or after 9999 has no such form: it is shown as its number with ``us``.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us}us"
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
