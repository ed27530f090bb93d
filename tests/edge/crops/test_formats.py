"""Only the promised formats are opened, told by their first bytes; others are named."""

from __future__ import annotations

import io
import os
import subprocess
import tracemalloc

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from rrid_edge.crops.formats import format_of, why_refused
from rrid_edge.crops.images import load_rgb, read_image, rgb_of
from rrid_edge.crops.reading import MAX_BYTES, read_file
from rrid_edge.errors import ImageError
from support.pictures import noise

READ = {"JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "PPM", "GIF"}
NAMES = {
    "AVIF": "AVIF",
    "DDS": "DDS",
    "EPS": "PostScript",
    "ICNS": "icon",
    "ICO": "icon",
    "JPEG2000": "JPEG 2000",
    "PCX": "PCX",
    "PDF": "PDF",
    "QOI": "QOI",
    "SGI": "SGI",
    "TGA": "TGA",
    "XBM": "XBM",
    "MSP": "MSP",
    "BLP": "BLP",
    "IM": "an IM picture",
    "PALM": "not an image of a known format",
}


def saved(form):
    """A picture in a format of Pillow, in the first mode that it can write."""
    for mode in ("RGB", "L", "P", "1"):
        stream = io.BytesIO()
        try:
            noise(1).convert(mode).save(stream, form)
        except (OSError, ValueError, KeyError, SystemError):
            continue
        return stream.getvalue()
    raise AssertionError(form)


def formats():
    """The formats that Pillow writes by itself."""
    Image.init()
    return sorted((set(Image.registered_extensions().values()) & set(Image.SAVE)) - {"BUFR", "GRIB", "HDF5", "WMF"})


@pytest.mark.filterwarnings("ignore:IM image format")
@pytest.mark.parametrize("form", formats())
def test_every_format_of_pillow_is_read_or_named(form, monkeypatch):
    data = saved(form)
    if form in READ:
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB"))
        assert (np.asarray(load_rgb("a.jpg", data)) == expected).all()
        return
    monkeypatch.setattr(Image, "open", lambda *_args, **_options: pytest.fail("Pillow opened it"))
    with pytest.raises(ImageError) as refusal:
        load_rgb("a.jpg", data)
    assert refusal.value.message.startswith("a.jpg: ")
    assert NAMES.get(form, "not") in refusal.value.message
    assert "expected JPEG, PNG, BMP, WebP, TIFF" in refusal.value.message


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"\0\0\0\x18ftypcrx ", "raw"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<svg xmlns=", "SVG"),
        (b'<?xml version="1.0"?>\n<svg width="5">', "SVG"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (bytes(64), "zeros"),
        (b"", "empty"),
        (b"BM these are words", "not an image"),
        (b"P9 1 1", "not an image"),
        (b"\xef\xbb\xbf\xff\xd8\xff\xe0", "not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_file_is_is_told_by_its_first_bytes(head, what):
    assert format_of(head) is None
    assert what in why_refused(head)


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_args, **_options: pytest.fail("Ghostscript started"))
    monkeypatch.setattr(subprocess, "check_call", lambda *_args, **_options: pytest.fail("a program started"))
    data = saved("EPS")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match="PostScript"):
        read_image(tmp_path / "a.jpg", 64, 32)
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(ImageError, match="image 0: a PostScript file"):
        rgb_of(image, "image 0")


def test_the_first_picture_of_an_mpo_file_is_read(tmp_path):
    first, second = noise(1), noise(2, 64, 32)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    first.save(tmp_path / "plain.jpg", quality=95)
    found = np.asarray(load_rgb(tmp_path / "a.jpg"))
    assert (found == np.asarray(load_rgb(tmp_path / "plain.jpg"))).all()
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
        assert (np.asarray(rgb_of(image, "image 0")) == found).all()


def test_a_gif_of_one_whole_frame_is_read(tmp_path):
    noise(1).save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert (np.asarray(load_rgb(tmp_path / "a.gif")) == np.asarray(image.convert("RGB"))).all()
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:8] = (80).to_bytes(2, "little")  # a wider screen
    with pytest.raises(ImageError, match="does not fill"):
        load_rgb("a.gif", bytes(data))


def test_the_form_decides_and_not_the_name(tmp_path):
    noise(1).save(tmp_path / "a.png", "BMP")
    assert (np.asarray(load_rgb(tmp_path / "a.png")) == np.asarray(noise(1))).all()


@pytest.fixture
def sparse(tmp_path):
    """A file of 40 GiB that takes no room, and starts as a sound picture."""
    path = tmp_path / "clip.jpg"
    noise(1).save(path)
    os.truncate(path, 40 << 30)
    return path


def test_a_huge_file_costs_neither_memory_nor_time(sparse):
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=r"clip\.jpg: 40 GiB, too large; at most 256 MiB are read"):
            read_image(sparse, 64, 32)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_is_one_of_bytes(tmp_path):
    path = tmp_path / "a.jpg"
    noise(1).save(path)
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(ImageError, match="256 MiB, too large"):
        read_file(path)
    path.write_bytes(b"\xff\xd8\xff" + bytes(3 << 20))
    content, state = read_file(path)
    assert len(content) == state.st_size == (3 << 20) + 3


def test_a_file_that_starts_as_no_image_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    os.truncate(path, MAX_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="zeros"):
            read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_read_to_its_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff" + bytes(5 << 20))
    real = os.fstat

    def before(number):
        state = list(real(number))
        state[6] = 10
        return os.stat_result(state)

    monkeypatch.setattr("rrid_edge.crops.reading.os.fstat", before)
    assert len(read_file(path)[0]) == (5 << 20) + 3
    monkeypatch.setattr("rrid_edge.crops.reading.MAX_BYTES", 1 << 20)
    with pytest.raises(ImageError, match="too large"):
        read_file(path)


def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="no ordinary file"):
        read_image(tmp_path / "pipe.jpg", 64, 32)
    with pytest.raises(ImageError, match="no ordinary file"):
        read_image("/dev/zero", 64, 32)
    with pytest.raises(ImageError, match="null"):
        read_image("a\0.jpg", 64, 32)
    with pytest.raises(ImageError, match="name too long"):
        read_image(tmp_path / ("n" * 300), 64, 32)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), AttributeError("x"), ZeroDivisionError()])
def test_any_exception_while_decoding_is_an_error_of_the_file(tmp_path, monkeypatch, error):
    noise(1).save(tmp_path / "a.png")

    def fail(*_args):
        raise error

    monkeypatch.setattr("rrid_edge.crops.images._opaque_rgb", fail)
    with pytest.raises(ImageError) as refusal:
        read_image(tmp_path / "a.png", 64, 32)
    assert ("not enough memory" if isinstance(error, MemoryError) else type(error).__name__) in refusal.value.reason
    with pytest.raises(ImageError, match="image 3: "):
        rgb_of(noise(1), "image 3")


def test_an_interrupt_is_no_error_of_the_file(tmp_path, monkeypatch):
    noise(1).save(tmp_path / "a.png")

    def fail(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("rrid_edge.crops.images._opaque_rgb", fail)
    with pytest.raises(KeyboardInterrupt):
        read_image(tmp_path / "a.png", 64, 32)
