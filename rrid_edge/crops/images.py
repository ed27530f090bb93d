"""The image contract: the only way from a file to the pixels that a network sees.

Evaluation, calibration, parity and inference all read images here. The steps are: decode with Pillow, apply the
orientation of EXIF or XMP, convert to RGB, resize bilinearly (antialiased when shrinking), uint8. Scaling and
normalisation belong to the model's graph.

JPEG, PNG, BMP (also DIB), WebP, TIFF, PPM (also PGM, PBM) and GIF are read, told by their first bytes. Metadata cannot
fail a picture: of them only the orientation is read.

Files with more than one possible reading are refused: truncated files, animations, CMYK, more than 8 bits per channel,
transparent pixels, and images too small or too large to be a crop of a person.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from rrid_edge.crops.containers import Stored, without_metadata
from rrid_edge.crops.exif import ORIENTATION, UPRIGHT, exif_orientation
from rrid_edge.crops.fast_jpeg import fast_decoder, fast_pixels
from rrid_edge.crops.formats import FORMATS, HEAD_BYTES, format_of, why_refused
from rrid_edge.crops.memory import MAX_DECODING_BYTES, decoding_bytes
from rrid_edge.crops.reading import MAX_BYTES, read_file
from rrid_edge.errors import ImageError, printable, unforeseen

# Pillow logs damage of TIFF files. Without a handler, Python prints what a library logs.
logging.getLogger("PIL").addHandler(logging.NullHandler())

MAX_PIXELS: Final = 64_000_000
"""Largest accepted width x height, about two 8K video frames. Stops decompression bombs.

Images that take more than :data:`rrid_edge.crops.memory.MAX_DECODING_BYTES` to decode are refused too.
"""
MIN_SIDE_PX: Final = 8
"""Smallest accepted width and height. Below it no person is visible."""

_EIGHT_BIT_MODES: Final = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX"})
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to show pictures of each orientation, except those that are upright."""


def load_decoders() -> None:
    """Import Pillow's decoders of the usual formats, which the first image would wait for."""
    Image.preinit()


def read_image(path: str | Path, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Decode one image file into the network's input.

    Args:
        path: the file.
        height_px: rows of the result.
        width_px: columns of the result.

    Returns:
        uint8 array of shape (height_px, width_px, 3), RGB.

    Raises:
        ImageError: the file is missing, unreadable, no image, truncated or of a refused kind.
    """
    return resize(load_rgb(path), height_px, width_px)


def read_image_bytes(content: bytes, path: str | Path, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Like :func:`read_image`, from the bytes of a file; errors name ``path``.

    The package simplejpeg decodes plain JPEG files if it is installed; see :mod:`rrid_edge.crops.fast_jpeg`.
    """
    image = _plain_jpeg(content) or load_rgb(path, content)
    return resize(image, height_px, width_px)


def _plain_jpeg(content: bytes) -> Image.Image | None:
    """A plain JPEG file as :func:`load_rgb` decodes it, several times faster; None if Pillow has to decode it."""
    if fast_decoder().decode is None or format_of(content[:HEAD_BYTES]) != "JPEG":
        return None
    stored = without_metadata(content, "JPEG")
    pixels = fast_pixels(stored.content)
    return None if pixels is None else _turned(Image.fromarray(pixels), stored.orientation)


def resize(image: Image.Image, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Resize an RGB image to the network's input size.

    Args:
        image: Pillow image in mode RGB.
        height_px: rows of the result.
        width_px: columns of the result.

    Returns:
        uint8 array of shape (height_px, width_px, 3).
    """
    return np.asarray(image.resize((width_px, height_px), Image.Resampling.BILINEAR), dtype=np.uint8)


def load_rgb(path: str | Path, content: bytes | None = None, *, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image to RGB at its own size, with its orientation applied.

    Args:
        path: the file, or the name of ``content`` in errors.
        content: the file's bytes, if they are in memory already.
        most_pixels: largest accepted width x height, at most :data:`MAX_PIXELS`.

    Raises:
        ImageError: as for :func:`read_image`.
    """
    if content is None:
        content = read_file(path)[0]
    try:
        return _decoded(path, content, most_pixels)
    except Exception as error:  # Pillow's decoders raise almost anything for damaged data
        raise _image_error(path, error) from error


def _decoded(path: str | Path, content: bytes, most_pixels: int) -> Image.Image:
    form = format_of(content[:HEAD_BYTES])
    if form is None:
        raise ImageError(path, why_refused(content[:HEAD_BYTES]))
    stored = without_metadata(content, form)
    if stored.pages > 1:
        raise ImageError(path, f"a file of {stored.pages} pages; save one of them as JPEG or PNG")
    # Pillow's warnings are not silenced here: warning filters are global, and threads would corrupt them.
    with Image.open(io.BytesIO(stored.content), formats=(form,)) as image:
        _refuse_unreadable_kinds(path, image, most_pixels)
        _refuse_costly(path, image, content, stored)
        image.load()
        return _opaque_rgb(path, _turned(image, stored.orientation))


def _refuse_costly(path: str | Path, image: Image.Image, content: bytes, stored: Stored) -> None:
    """Refuse an image that would fill the memory while it is decoded."""
    copied = 0 if stored.content is content else len(content)
    needed = copied + decoding_bytes(image, stored.content, is_turned=stored.orientation != UPRIGHT)
    if needed > MAX_DECODING_BYTES:
        raise ImageError(
            path,
            f"{image.width} x {image.height} pixels, which take {needed >> 20} MiB to decode; at most "
            f"{MAX_DECODING_BYTES >> 20} MiB are used: crop the person first",
        )


def _image_error(path: str | Path, error: Exception) -> ImageError:
    """The error of a file for what its decoder raised."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, MemoryError):
        return ImageError(path, "not enough memory to decode this image; make it smaller, or leave it out")
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageError(path, f"too many pixels; at most {MAX_PIXELS:,} are read: crop the person first")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(path, "damaged or truncated image (unknown header); save or fetch it again")
    is_usual = isinstance(error, (OSError, SyntaxError, ValueError)) and str(error)
    reason = printable(" ".join(str(error).split())) if is_usual else unforeseen(error)
    return ImageError(path, f"damaged or truncated image ({reason}); save or fetch it again")


def rgb_of(image: Image.Image, name: str) -> Image.Image:
    """An image in memory in RGB with its orientation applied, as :func:`load_rgb` would read it from a file.

    The given image is not changed; it is returned itself where nothing changes.

    Args:
        image: a Pillow image.
        name: what errors call it, for example ``image 3``.

    Raises:
        ImageError: as for :func:`read_image`, or a PostScript file, for which Pillow would start another program.
    """
    try:
        if image.format == "EPS":
            raise ImageError(name, f"a PostScript file (EPS), which is not read; expected {FORMATS}: convert it")
        _refuse_unreadable_kinds(name, image)
        if not _can_load(image):
            return load_rgb(name, _file_of(image))
        return _opaque_rgb(name, _turned(image, _orientation(image)))
    except Exception as error:
        raise _image_error(name, error) from error


def _can_load(image: Image.Image) -> bool:
    """Load the pixels of an image; False for a TIFF file of which Pillow refuses pixels or metadata."""
    try:
        image.load()
    except Exception:
        if image.format != "TIFF" or getattr(image, "fp", None) is None:
            raise
        return False
    return True


def _file_of(image: Image.Image) -> bytes:
    """The bytes of the file that an image is loaded from."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None
    image.fp.seek(0)
    return image.fp.read(MAX_BYTES)


def _orientation(image: Image.Image) -> int:
    """The orientation of an image in memory. Pillow turns TIFF files while it loads them."""
    value: Any
    try:
        value = image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata are no reason to refuse pixels
        value = None
    if isinstance(value, bytes) and len(value) == 1:
        value = value[0]
    if value in range(1, 9):
        return int(value)
    exif = image.info.get("exif")
    return (exif_orientation(exif) if isinstance(exif, bytes) else None) or UPRIGHT


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image as it is shown, itself if it is upright: a copy of 12 megapixels takes as long as its whole resize."""
    return image if orientation == UPRIGHT else image.transpose(_TURNS[orientation])


def _refuse_unreadable_kinds(path: str | Path, image: Image.Image, most_pixels: int = MAX_PIXELS) -> None:
    width, height = image.size
    if width * height > most_pixels:
        raise ImageError(path, f"{width} x {height} pixels; at most {most_pixels:,} are read: crop the person first")
    if width < MIN_SIDE_PX or height < MIN_SIDE_PX:
        raise ImageError(
            path, f"{width} x {height} pixels; expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX}: give a larger crop"
        )
    _refuse_animation(path, image)
    if image.mode == "CMYK":
        raise ImageError(path, "CMYK colours, whose RGB values depend on a print profile; convert the file to RGB")
    if image.mode not in _EIGHT_BIT_MODES:
        raise ImageError(
            path,
            f"pixel format {image.mode!r} (more than 8 bits per channel, or no RGB); convert the file to 8-bit RGB",
        )
    if _stored_bits(image) > 8:
        raise ImageError(path, "more than 8 bits per channel; convert the file to 8-bit RGB")


def _refuse_animation(path: str | Path, image: Image.Image) -> None:
    if image.format == "MPO":  # opened by the caller, at one of its pictures
        return
    if image.format == "GIF":  # counting the frames of a large one takes minutes
        frames = 2 if getattr(image, "is_animated", False) else 1
        tile = image.tile[:1] if isinstance(image, ImageFile.ImageFile) else []
        if frames == 1 and any(part[1] != (0, 0, *image.size) for part in tile):
            raise ImageError(path, "a GIF whose frame does not fill the picture; save it as JPEG or PNG")
    else:
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(path, "an animation or a file of several pages; save one frame as JPEG or PNG")


def _stored_bits(image: Image.Image) -> int:
    """Bits per channel in the file. Pillow's mode does not show them: it reads 16-bit RGB PNGs as 8-bit RGB."""
    if not isinstance(image, ImageFile.ImageFile):
        return 8
    if image.format == "PNG" and image.tile:
        raw_mode = image.tile[0][3]
        return 16 if "16" in str(raw_mode) else 8
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if image.format == "PPM" and image.tile:
        maximum = image.tile[0][3]
        return 16 if isinstance(maximum, tuple) and isinstance(maximum[-1], int) and maximum[-1] > 255 else 8
    return 8


def _opaque_rgb(path: str | Path, image: Image.Image) -> Image.Image:
    """The image in RGB.

    Raises:
        ImageError: some of its pixels are transparent.
    """
    if "A" in image.getbands() or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            raise ImageError(path, "transparent pixels, whose colour is undefined; save the crop without transparency")
    return image if image.mode == "RGB" else image.convert("RGB")
