"""Tests of the image contract: one way from a file to pixels, and one line per error."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.images import read_image
from rrid_edge.errors import ImageError
from support.pictures import noise


def test_pixels_are_rgb_uint8_of_the_asked_size(tmp_path):
    Image.new("RGB", (64, 128), (250, 10, 90)).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", 192, 48)
    assert pixels.shape == (192, 48, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (250, 10, 90)).all()


def test_same_size_is_untouched(tmp_path):
    picture = noise(1)
    picture.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 128, 64) == np.asarray(picture)).all()


def test_shrinking_is_antialiased(tmp_path):
    """A one-pixel checkerboard shrinks to its mean. Plain bilinear sampling would alias."""
    board = (np.indices((256, 128)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.stack([board] * 3, 2)).save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png", 64, 32).astype(int) - 127).max() <= 2


def test_exif_orientation_is_applied(tmp_path):
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (0, 0, 20, 20))  # the left half is red
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    pixels = read_image(tmp_path / "a.png", 40, 20)
    assert (pixels[:18, :, 0] > 200).all()
    assert (pixels[22:, :, 0] < 50).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA"])
def test_opaque_8_bit_kinds_are_read(tmp_path, mode):
    noise(3).convert(mode).save(tmp_path / "a.png")
    expected = np.asarray(noise(3).convert(mode).convert("RGB"))
    assert (read_image(tmp_path / "a.png", 128, 64) == expected).all()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_16_bit_rgb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + os.urandom(width * 6) for _ in range(height))
    parts = (_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", zlib.compress(rows)), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def _huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", b"") + _png_chunk(b"IEND", b"")


def _bad_files() -> dict[str, tuple[str, bytes, str]]:
    transparent = Image.new("RGBA", (64, 128), (1, 2, 3, 100))
    frames = [noise(1), noise(2)]
    grey16 = Image.fromarray(np.full((128, 64), 40_000, np.uint16))
    return {
        "no image": ("a.jpg", b"these are words", "not an image"),
        "empty": ("a.jpg", b"", "not an image"),
        "truncated": ("a.jpg", _encoded(noise(1), "JPEG")[:900], "truncated"),
        "1 x 1": ("a.png", _encoded(Image.new("RGB", (1, 1)), "PNG"), "1 x 1 pixels"),
        "20,000 x 20,000": ("a.png", _huge_png(), "pixels"),
        "CMYK": ("a.jpg", _encoded(noise(1).convert("CMYK"), "JPEG"), "CMYK"),
        "16-bit grey": ("a.png", _encoded(grey16, "PNG"), "8 bits"),
        "16-bit RGB": ("a.png", _png_16_bit_rgb(64, 128), "8 bits"),
        "animated": ("a.gif", _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "animation"),
        "transparent": ("a.png", _encoded(transparent, "PNG"), "transparent"),
    }


@pytest.mark.parametrize("case", list(_bad_files()))
def test_what_has_no_single_reading_is_refused_in_one_line(tmp_path, case):
    name, data, reason = _bad_files()[case]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError) as refusal:
        read_image(path, 384, 128)
    message = refusal.value.message
    assert message.startswith(str(path))
    assert reason in message
    assert "\n" not in message
    assert refusal.value.exit_code == 2


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.jpg", 384, 128)
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path, 384, 128)
