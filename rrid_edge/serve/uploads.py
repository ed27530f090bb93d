"""Uploaded images: read from the body into memory, and decoded as files are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException, MultiPartParser

from rrid_edge.crops.thumbnail import thumbnail_of
from rrid_edge.embedding.queries import read_query
from rrid_edge.errors import printable
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.limits import MULTIPART
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.scopes import media_type_of
from rrid_edge.serve.service import Service
from rrid_edge.serve.worker import EngineWorker

FIELD: Final = "images"
QUERY_THUMBNAIL_PX: Final = 96
_LONGEST_NAME: Final = 200
_NAMELESS: Final = "image {}"


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Attributes:
        name: as the client calls it, without folders, for messages only.
        content: its bytes.
    """

    name: str
    content: bytes


@dataclass(frozen=True)
class EmbeddedUploads:
    """Descriptors of uploaded images.

    Attributes:
        names: of the files.
        descriptors: float32 (N, D).
        warnings: doubts about the images, one line each.
        thumbnail: JPEG of the first image.
        waiting_s: time in the engine's queue.
        decoding_s: time until all were decoded.
        embedding_s: time of the engine's call.
    """

    names: tuple[str, ...]
    descriptors: NDArray[np.float32]
    warnings: tuple[str, ...]
    thumbnail: bytes
    waiting_s: float
    decoding_s: float
    embedding_s: float


async def read_uploads(request: Request, worker: EngineWorker, most: int) -> list[Upload]:
    """The files of the field ``images`` of a multipart body.

    They are held in memory, not in temporary files: the body's limit bounds them, and pictures of people do not belong
    on the disk of a server.

    Args:
        request: whose body was not read yet.
        worker: that will compute them.
        most: files at most.

    Raises:
        RequestError: as :func:`read_form`, or 422, the form has other parts or no files.
    """
    parts = await read_form(request, worker, most)
    strange = next((part for part in parts if part.field != FIELD or isinstance(part.value, str)), None)
    if strange is not None:
        shown = printable(strange.field[:_LONGEST_NAME])
        raise RequestError(f"the form has a part {shown!r}: expected files in the field {FIELD!r} only")
    if not parts:
        raise RequestError(f"the form has no files: expected 1 to {most} images in the field {FIELD!r}")
    return [
        Upload(_name(part.filename, number), part.value)
        for number, part in enumerate(parts, 1)
        if isinstance(part.value, bytes)
    ]


@dataclass(frozen=True)
class FormPart:
    """A part of a form.

    Attributes:
        field: name of the field.
        value: bytes of a file, or the text of a field without a file.
        filename: as the client calls the file, or None.
    """

    field: str
    value: bytes | str
    filename: str | None = None


async def read_form(request: Request, worker: EngineWorker, most: int) -> list[FormPart]:
    """The parts of a multipart body, in memory.

    Args:
        request: whose body was not read yet.
        worker: that will compute its images. If it takes no more, nothing is parsed.
        most: files at most, and other fields at most.

    Raises:
        RequestError: 415, the body is no form; 429, the worker's queue is full; 503, its engine cannot be opened; 400,
            the form is damaged; 422, it has too many parts.
    """
    if media_type_of(request.scope) != MULTIPART:
        raise RequestError(f"the body is no form: expected {MULTIPART}", status=415)
    worker.refuse_full()
    parser = MultiPartParser(request.headers, request.stream(), max_files=most, max_fields=most)
    parser.spool_max_size = 1 << 40  # never to the disk
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        reason = printable(str(getattr(error, "message", error)).rstrip("."))
        if reason.startswith("Too many"):
            raise RequestError(f"the form has more than {most} parts: expected at most {most}") from error
        raise RequestError(f"the form cannot be read ({reason}): expected multipart/form-data", status=400) from error
    try:
        return [
            FormPart(name, value) if isinstance(value, str) else FormPart(name, await value.read(), value.filename)
            for name, value in form.multi_items()
        ]
    finally:
        await form.close()


async def embed_uploads(
    service: Service, served: ServedGallery, uploads: Sequence[Upload], thumbnail_px: int = QUERY_THUMBNAIL_PX
) -> EmbeddedUploads:
    """Decode images in threads, and compute their descriptors.

    Args:
        service: that is asked.
        served: the gallery of the model.
        uploads: the images.
        thumbnail_px: longest side of the thumbnail.

    Raises:
        RequestError: 429, the engine's queue is full; 503, the engine cannot be opened.
        ImageError: an image cannot be decoded, or has too many pixels.
    """
    start = time.perf_counter()
    with served.worker.place(len(uploads)):
        images = await asyncio.gather(*(_decoded(service, served, upload, thumbnail_px) for upload in uploads))
        decoded = time.perf_counter()
        done = await served.worker.run(np.stack([image.pixels for image in images]))
    return EmbeddedUploads(
        names=tuple(upload.name for upload in uploads),
        descriptors=done.descriptors,
        warnings=tuple(image.warning for image in images if image.warning),
        thumbnail=images[0].thumbnail,
        waiting_s=done.waited_s,
        decoding_s=decoded - start,
        embedding_s=done.computed_s,
    )


@dataclass(frozen=True)
class _Decoded:
    """A decoded image. Its full size is not kept: 32 megapixels take 100 MB.

    Attributes:
        pixels: for the engine, uint8 (height, width, 3).
        warning: the doubts about it in one line, or empty.
        thumbnail: a small JPEG of it.
    """

    pixels: NDArray[np.uint8]
    warning: str
    thumbnail: bytes


async def _decoded(service: Service, served: ServedGallery, upload: Upload, thumbnail_px: int) -> _Decoded:
    def decode() -> _Decoded:
        most = service.settings.most_pixels
        found = read_query(upload.name, served.spec, upload.content, most_pixels=most)
        return _Decoded(found.pixels, found.warning, thumbnail_of(found.image, thumbnail_px))

    return await service.threads.decode(decode)


def _name(given: str | None, number: int) -> str:
    """The last part of a file's name, bounded, for messages."""
    name = printable((given or "").replace("\\", "/").rpartition("/")[2])[:_LONGEST_NAME]
    return name or _NAMELESS.format(number)
