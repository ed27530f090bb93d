"""A person's crops as a zip file: pictures, a table, descriptors. It is made while it is sent, in bounded memory."""

from __future__ import annotations

import contextlib
import csv
import io
import time
import zipfile
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from typing import Final

from numpy.lib.format import write_array_header_1_0

from rrid_edge import __version__
from rrid_edge.crops.formats import HEAD_BYTES, format_of
from rrid_edge.errors import printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.spreadsheet import cell
from rrid_edge.serve.answers import shown_time
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.pictures import file_of
from rrid_edge.serve.threads import WorkThreads

_BLOCK_ROWS: Final = 256
_ENDINGS: Final = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif", "PPM": "ppm"}
_COLUMNS: Final = (
    "id", "picture", "path", "source", "camera", "time", "frame", "track", "told", "person", "sha256", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes:
        gallery: of the crops.
        title: who it is, for the reader, such as ``p3 (Ann)``.
        rows: of the crops, in the order of the table and of the descriptors.
    """

    gallery: ServedGallery
    title: str
    rows: Sequence[GalleryRow]

    def parts(self) -> Generator[bytes, None, None]:
        """The zip file, part by part; one picture or one block of descriptors is in memory at a time.

        Raises:
            GalleryChangedError: a crop was forgotten meanwhile. What was given out so far is no zip file.
        """
        sink = _Sink()
        with zipfile.ZipFile(sink, "w") as archive:
            yield from self._descriptors(archive, sink)
            table = io.StringIO(newline="")
            lines = csv.writer(table)
            lines.writerow(_COLUMNS)
            for row in self.rows:
                name, content, note = self._picture(row)
                if name:
                    archive.writestr(_entry(name), content)
                lines.writerow([cell(value) for value in _facts(row, name, note)])
                yield sink.taken()
            archive.writestr(_entry("crops.csv"), table.getvalue().encode("utf-8"), zipfile.ZIP_DEFLATED)
            archive.writestr(_entry("README.txt"), self._readme().encode("utf-8"))
        yield sink.taken()

    def _descriptors(self, archive: zipfile.ZipFile, sink: _Sink) -> Generator[bytes, None, None]:
        """They come first: a crop that is gone, or damaged, is refused before anything is sent."""
        shape = (len(self.rows), self.gallery.spec.dimension)
        with archive.open(_entry("descriptors.npy"), "w", force_zip64=True) as stream:
            for start in range(0, max(1, len(self.rows)), _BLOCK_ROWS):
                vectors = self.gallery.store.vectors(self.rows[start : start + _BLOCK_ROWS])
                if not start:
                    write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
                stream.write(vectors.astype("<f4", copy=False).tobytes())
                yield sink.taken()

    def _picture(self, row: GalleryRow) -> tuple[str, bytes, str]:
        """Name and bytes of a crop's picture, and what is to be said of it: its file, or else its thumbnail."""
        try:
            content, note = file_of(self.gallery, row), ""
        except RequestError as error:
            content = self.gallery.store.thumbnails([row.id]).get(row.id, b"")
            note = error.message
        if not content:
            return "", b"", note
        ending = _ENDINGS.get(format_of(content[:HEAD_BYTES]) or "", "bin")
        return f"pictures/{row.id}.{ending}", content, note

    def _readme(self) -> str:
        gallery = printable(self.gallery.name)
        return (
            f"{len(self.rows)} crops of {printable(self.title)} in the gallery {gallery}, exported by rrid-edge "
            f"{__version__} on {shown_time(time.time_ns() // 1000)}: line i of crops.csv (after its header) and row i "
            f"of descriptors.npy belong together; model {self.gallery.spec.fingerprint}.\n"
        )


async def sent(parts: Generator[bytes, None, None], threads: WorkThreads) -> AsyncGenerator[bytes, None]:
    """The parts of an export, each made in a thread when the client has taken the one before."""
    try:
        while (part := await threads.run(next, parts, None)) is not None:
            if part:
                yield part
    finally:
        with contextlib.suppress(ValueError):  # a thread still makes a part, which nobody takes
            parts.close()


class _Sink(io.RawIOBase):
    """Takes what the zip file writes, until somebody takes it from here."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(memoryview(data))  # type: ignore[arg-type]
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.gmtime()[:6])
    entry.external_attr = 0o600 << 16  # pictures of people are for their owner
    return entry


def _facts(row: GalleryRow, picture: str, note: str) -> tuple[int | str | None, ...]:
    when = None if row.time is None else shown_time(row.time)
    return (
        row.id, picture, row.path, row.source, row.camera, when, row.frame, row.track, row.person, row.label,
        row.sha256, note,
    )  # fmt: skip
