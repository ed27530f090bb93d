"""Pictures of crops by their id: the stored thumbnail, one that is made from the file, or the file itself.

A file is shown only while its content is what was indexed, so nothing else in or below the folder can be read.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PIL import Image

from rrid_edge.crops.folder import leads_out
from rrid_edge.crops.formats import HEAD_BYTES, format_of
from rrid_edge.crops.images import load_rgb
from rrid_edge.crops.reading import read_file
from rrid_edge.crops.thumbnail import thumbnail_of
from rrid_edge.errors import ImageError, printable
from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryRow
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError

LARGEST_FILE_BYTES: Final = 64 << 20
"""Largest file that is shown. It lies in memory while it is sent."""
CACHE_BYTES: Final = 32 << 20
"""Memory of thumbnails that were made from files."""
_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
}
"""Formats that every browser shows. Files of others are turned into JPEG."""
_JPEG_QUALITY: Final = 92


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        content: bytes of the file.
        media_type: such as ``image/jpeg``.
    """

    content: bytes
    media_type: str = "image/jpeg"


class PictureCache:
    """Thumbnails by the content that they show, the last used ones. Any thread may call its methods.

    Args:
        most_bytes: of all thumbnails together.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Bytes of all thumbnails."""
        return self._bytes

    def get(self, digest: str, make: Callable[[], bytes]) -> bytes:
        """The thumbnail of a content, made if it is not here.

        Args:
            digest: sha256 (hex) of the content.
            make: makes it; several threads may make the same one at a time.
        """
        with self._lock:
            if digest in self._pictures:
                self._pictures.move_to_end(digest)
                return self._pictures[digest]
        made = make()
        with self._lock:
            self._bytes += len(made) - len(self._pictures.pop(digest, b""))
            self._pictures[digest] = made
            while self._bytes > self._most_bytes:
                _, oldest = self._pictures.popitem(last=False)
                self._bytes -= len(oldest)
        return made

    def clear(self) -> None:
        """Forget all thumbnails: crops were forgotten."""
        with self._lock:
            self._pictures.clear()
            self._bytes = 0


def crop_row(gallery: ServedGallery, crop: int) -> GalleryRow:
    """The row of a crop.

    Raises:
        RequestError: 404, there is none of this id.
    """
    found = gallery.store.rows_by_id([crop])
    if not found:
        raise RequestError(
            f"crop {crop} is not in the gallery {printable(gallery.name)}: expected the id of one of its crops",
            status=404,
        )
    return found[0]


def thumbnail(gallery: ServedGallery, row: GalleryRow, cache: PictureCache) -> Picture:
    """A small picture of a crop.

    Raises:
        RequestError: 404 if no picture of it is here, 409 if its file has changed.
    """
    stored = gallery.store.thumbnails([row.id]).get(row.id)
    if stored is not None:
        return Picture(stored)

    def make() -> bytes:
        content = file_of(gallery, row)
        return thumbnail_of(_decoded(row, content))

    return Picture(cache.get(row.sha256, make) if row.sha256 else make())


def full_picture(gallery: ServedGallery, row: GalleryRow) -> Picture:
    """The file of a crop, or a JPEG of it if browsers do not show its format.

    Raises:
        RequestError: 404 if its file is not here, 409 if it has changed, 413 if it is too large.
    """
    content = file_of(gallery, row)
    media_type = _TYPES.get(format_of(content[:HEAD_BYTES]) or "")
    if media_type is not None:
        return Picture(content, media_type)
    stream = io.BytesIO()
    _decoded(row, content).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return Picture(stream.getvalue())


def etag_of(row: GalleryRow, size: str, picture: Picture | None = None) -> str:
    """The ETag of a crop's picture: of its content, and of the size.

    Args:
        row: of the crop.
        size: ``thumb`` or ``full``.
        picture: needed if the row has no digest.
    """
    digest = row.sha256 or hashlib.sha256(b"" if picture is None else picture.content).hexdigest()
    return f'"{digest[:32]}-{size}"'


def _decoded(row: GalleryRow, content: bytes) -> Image.Image:
    try:
        return load_rgb(row.name, content)
    except ImageError as error:
        raise RequestError(f"crop {row.id}: its file cannot be shown ({error.reason})", status=409) from error


def file_of(gallery: ServedGallery, row: GalleryRow) -> bytes:
    """The bytes of a crop's file, as they were indexed.

    Raises:
        RequestError: 404 if its file is not here, 409 if it has changed, 413 if it is too large.
    """
    folder = gallery.folder
    if row.path is None or folder is None or row.source != LOCAL_SOURCE:
        raise RequestError(f"crop {row.id}: its file is not on this machine; size=thumb may have a picture", status=404)
    if row.size > LARGEST_FILE_BYTES:
        raise RequestError(
            f"crop {row.id}: its file has {row.size >> 20} MiB; at most {LARGEST_FILE_BYTES >> 20} MiB are shown",
            status=413,
        )
    changed = RequestError(f"crop {row.id}: the file changed since it was indexed: index the folder again", status=409)
    try:
        if leads_out(folder, row.path):
            raise RequestError(
                f"crop {row.id}: its file is a link that leads out of the folder, and is not shown", status=404
            )
        if (folder / row.path).stat().st_size != row.size:
            raise changed
        content = read_file(folder / row.path)[0]
    except ImageError as error:
        raise RequestError(f"crop {row.id}: its file cannot be read now ({error.reason})", status=404) from error
    except (OSError, ValueError) as error:  # a name with a zero is a ValueError
        reason = getattr(error, "strerror", None) or "its name is no name of a file"
        raise RequestError(f"crop {row.id}: its file cannot be read now ({reason})", status=404) from error
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise changed
    return content
