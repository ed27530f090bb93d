"""The image contract: the only way from a file to the pixels that a network sees.

Evaluation, calibration, parity and inference all read images here. The steps are: decode with Pillow, apply the EXIF
orientation, convert to RGB, resize bilinearly (antialiased when shrinking), uint8. Scaling and normalisation belong to
the model's graph.

Files with more than one possible reading are refused: truncated files, animations, CMYK, more than 8 bits per channel,
transparent pixels, and images too small or too large to be a crop of a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from rrid_edge.errors import ImageError

MAX_PIXELS: Final = 64_000_000
"""Largest accepted width x height, about two 8K video frames. Stops decompression bombs."""
MIN_SIDE_PX: Final = 8
"""Smallest accepted width and height. Below it no person is visible."""

_EIGHT_BIT_MODES: Final = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX"})


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


def read_image_bytes(stream: BinaryIO, path: str | Path, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Like :func:`read_image`, from bytes in memory; errors name ``path``."""
    return resize(load_rgb(path, stream), height_px, width_px)


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


def load_rgb(path: str | Path, stream: BinaryIO | None = None) -> Image.Image:
    """Decode one image to RGB at its own size, with its EXIF orientation applied.

    Args:
        path: the file, or the name of ``stream`` in errors.
        stream: the file's bytes, if they are in memory already.

    Raises:
        ImageError: as for :func:`read_image`.
    """
    try:
        # Pillow's warnings are not silenced here: warning filters are global, and threads would corrupt them.
        with Image.open(stream or path) as image:
            _refuse_unreadable_kinds(path, image)
            image.load()
            return _to_rgb(path, image)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(path, "no such file; expected an image, for example a JPEG crop of one person") from error
    except IsADirectoryError as error:
        raise ImageError(path, "this is a folder; expected an image file") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, "not an image that Pillow can read; expected JPEG, PNG, BMP or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning if warnings are errors
        raise ImageError(path, f"too many pixels; at most {MAX_PIXELS:,} are read: crop the person first") from error
    except PermissionError as error:
        raise ImageError(path, "permission denied; make the file readable") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:
        # Pillow's decoders raise all of these for damaged data.
        raise ImageError(path, f"damaged or truncated image ({error}); save or fetch it again") from error


def rgb_of(image: Image.Image, name: str) -> Image.Image:
    """An image in memory in RGB with its EXIF orientation applied, as :func:`load_rgb` would read it from a file.

    The given image is not changed; it is returned itself where nothing changes.

    Args:
        image: a Pillow image.
        name: what errors call it, for example ``image 3``.

    Raises:
        ImageError: as for :func:`read_image`.
    """
    try:
        _refuse_unreadable_kinds(name, image)
        image.load()
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return _opaque_rgb(name, ImageOps.exif_transpose(image) if is_turned else image)
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:
        raise ImageError(name, f"damaged, truncated or closed image ({error}); open or fetch it again") from error


def _refuse_unreadable_kinds(path: str | Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(path, f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read: crop the person first")
    if width < MIN_SIDE_PX or height < MIN_SIDE_PX:
        raise ImageError(
            path, f"{width} x {height} pixels; expected at least {MIN_SIDE_PX} x {MIN_SIDE_PX}: give a larger crop"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(path, f"an animation or a file of {frames} pages; save one frame as JPEG or PNG")
    if image.mode == "CMYK":
        raise ImageError(path, "CMYK colours, whose RGB values depend on a print profile; convert the file to RGB")
    if image.mode not in _EIGHT_BIT_MODES:
        raise ImageError(
            path,
            f"pixel format {image.mode!r} (more than 8 bits per channel, or no RGB); convert the file to 8-bit RGB",
        )
    if _stored_bits(image) > 8:
        raise ImageError(path, "more than 8 bits per channel; convert the file to 8-bit RGB")


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


def _to_rgb(path: str | Path, image: Image.Image) -> Image.Image:
    """The image in RGB with its EXIF orientation applied."""
    # Copied only if something changes: a copy of 12 megapixels takes 30 ms, as long as its whole resize.
    ImageOps.exif_transpose(image, in_place=True)
    return _opaque_rgb(path, image)


def _opaque_rgb(path: str | Path, image: Image.Image) -> Image.Image:
    """The image in RGB.

    Raises:
        ImageError: some of its pixels are transparent.
    """
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            raise ImageError(path, "transparent pixels, whose colour is undefined; save the crop without transparency")
    return image if image.mode == "RGB" else image.convert("RGB")
