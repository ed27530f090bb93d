"""Metadata never fail a picture: pixels equal those of a clean file with the same orientation."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from rrid_edge.crops.exif import exif_orientation
from rrid_edge.crops.images import load_rgb, rgb_of
from rrid_edge.crops.times import exif_time
from rrid_edge.errors import ImageError
from support.exif import (
    ORIENTATION,
    SHORT,
    Tag,
    encoded,
    exif_block,
    orientation_tag,
    png_chunk,
    tiff_with,
    turned_picture,
    with_exif,
)

FORMS = ("JPEG", "PNG", "WEBP", "TIFF")
PICTURE = turned_picture()


def clean(form):
    return tiff_with(PICTURE, []) if form == "TIFF" else encoded(PICTURE, form)


def shown(form, orientation):
    """What Pillow shows of a clean file with this orientation."""
    with Image.open(io.BytesIO(clean(form))) as image:
        rgb = image.convert("RGB")
    rgb.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(rgb))


def file_with(form, tags, order="<", after=0, rest=b""):
    return (
        tiff_with(PICTURE, tags, order, after)
        if form == "TIFF"
        else with_exif(PICTURE, form, exif_block(tags, order, after, rest))
    )


def pixels(data):
    return np.asarray(load_rgb("a.jpg", data))


def same(data, form, orientation):
    found, expected = pixels(data), shown(form, orientation)
    return found.shape == expected.shape and bool((found == expected).all())


@pytest.mark.parametrize("form", FORMS)
def test_the_eight_orientations_are_those_of_pillow(form):
    for orientation in range(1, 9):
        for order in "<>":
            data = file_with(form, [orientation_tag(orientation, order)], order)
            assert same(data, form, orientation)
            with Image.open(io.BytesIO(data)) as image:
                assert (np.asarray(rgb_of(image, "image 0")) == shown(form, orientation)).all()
    assert len({shown(form, orientation).tobytes() for orientation in range(1, 9)}) == 8


def test_a_resolution_unit_of_type_byte_is_no_reason_to_refuse():
    data = file_with("JPEG", [orientation_tag(6), Tag(0x0128, 1, 1, b"\2\0\0\0")])
    assert same(data, "JPEG", 6)
    with Image.open(io.BytesIO(data)) as image:
        assert (np.asarray(rgb_of(image, "image 0")) == shown("JPEG", 6)).all()


PIXEL_TAGS = {*range(254, 267), *range(277, 280), *range(317, 348), *range(512, 533), 273, 284, 292, 293}


@pytest.mark.parametrize("form", FORMS)
def test_no_other_tag_decides_anything(form):
    """Tags of any number, type, count and value around a sound orientation; loops, cut data."""
    draw = random.Random(f"tags {form}")
    others = [int(tag) for tag in ExifTags.Base if tag != ORIENTATION and not (form == "TIFF" and tag in PIXEL_TAGS)]
    expected = {orientation: shown(form, orientation) for orientation in range(1, 9)}
    for _ in range(150):
        orientation, order = draw.randrange(1, 9), draw.choice("<>")
        counts, values = (0, 1, 1, 2, 7, 65535, 2**31, 2**32 - 1), (0, 8, 30, 2**31)
        tags = [
            Tag(
                draw.choice(others),
                draw.randrange(20),
                draw.choice(counts),
                draw.choice((draw.randbytes(4), struct.pack(order + "I", draw.choice(values)))),
            )
            for _ in range(draw.randrange(1, 6))
        ]
        tags.insert(draw.randrange(len(tags) + 1), orientation_tag(orientation, order))
        data = file_with(form, tags, order, draw.choice((0, 8)), draw.randbytes(draw.randrange(40)))
        assert (pixels(data) == expected[orientation]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "count", "value", "orientation"),
    [
        (SHORT, 1, struct.pack("<HH", 0, 0), 1),
        (SHORT, 1, struct.pack("<HH", 9, 0), 1),
        (SHORT, 1, struct.pack("<HH", 65535, 0), 1),
        (SHORT, 0, struct.pack("<HH", 6, 0), 1),
        (SHORT, 2, struct.pack("<HH", 6, 3), 6),
        (1, 1, b"\6\0\0\0", 6),
        (4, 1, struct.pack("<I", 8), 8),
        (6, 1, b"\3\0\0\0", 3),
        (9, 1, struct.pack("<i", -6), 1),
        (11, 1, struct.pack("<f", 5.0), 5),
        (11, 1, struct.pack("<f", float("nan")), 1),
        (2, 2, b"6\0\0\0", 1),
        (7, 1, b"\6\0\0\0", 1),
        (99, 1, b"\6\0\0\0", 1),
        (SHORT, 3, struct.pack("<I", 2**31), 1),
    ],
    ids=[
        *("zero", "nine", "large", "none", "two", "byte", "long", "sbyte", "negative", "float", "nan"),
        *("text", "undefined", "unknown", "beyond"),
    ],
)
def test_an_orientation_that_is_no_whole_number_from_1_to_8_is_ignored(form, kind, count, value, orientation):
    assert same(file_with(form, [Tag(ORIENTATION, kind, count, value)]), form, orientation)


def test_damaged_exif_data_tell_nothing_or_the_orientation():
    block = exif_block([orientation_tag(6), Tag(0x8769, 4, 1, struct.pack("<I", 2**31))])
    for length in range(len(block)):
        found = exif_orientation(block[:length])
        assert found == (6 if length >= 8 + 2 + 12 else None)
        assert same(with_exif(PICTURE, "JPEG", block[:length]), "JPEG", found or 1)
    draw = random.Random(3)
    for _ in range(2000):
        flipped = bytearray(block)
        for _ in range(draw.randrange(1, 4)):
            flipped[draw.randrange(len(flipped))] = draw.randrange(256)
        assert exif_orientation(bytes(flipped)) in {None, *range(1, 9)}
    lying = block[:8] + struct.pack("<H", 65535) + block[10:] * 2000
    assert exif_orientation(lying) == 6


def test_exif_data_in_two_segments_and_after_other_bytes():
    block = exif_block([orientation_tag(8), Tag(0x9286, 7, 90_000, struct.pack("<I", 100))], rest=b"\0" * 90_000)
    data = encoded(PICTURE, "JPEG")
    parts = [b"Exif\0\0" + block[start : start + 60_000] for start in (0, 60_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    assert same(data[:2] + b"\xff\xff" + segments[1:] + data[2:], "JPEG", 8)


def test_exif_data_of_other_writers_of_png():
    block = exif_block([orientation_tag(5)])
    png = encoded(PICTURE, "PNG")
    digits = f"\nexif\n{len(block) + 6:8}\n{(b'Exif' + bytes(2) + block).hex()}\n".encode()
    for chunk in (
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
        png_chunk(b"tEXt", b"Raw profile type exif\0" + digits),
        png_chunk(b"eXIf", b"Exif\0\0" + block),
    ):
        assert same(png[:33] + chunk + png[33:], "PNG", 5)
        assert same(png[:-12] + chunk + png[-12:], "PNG", 5)
    broken = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)[:-9] + b"x")
    assert same(png[:33] + broken + png[33:], "PNG", 1) or same(png[:33] + broken + png[33:], "PNG", 5)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="7"/></x:xmpmeta>'


def test_xmp_tells_the_orientation_where_exif_does_not():
    jpeg, png = encoded(PICTURE, "JPEG"), encoded(PICTURE, "PNG")
    packet = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet + jpeg[2:]
    assert same(turned, "JPEG", 7)
    assert same(png[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + png[33:], "PNG", 7)
    exif = with_exif(PICTURE, "JPEG", exif_block([orientation_tag(3)]))
    assert same(exif[:2] + turned[2 : 6 + len(packet)] + exif[2:], "JPEG", 3)


def test_other_metadata_cannot_fail_a_jpeg():
    data = encoded(PICTURE, "JPEG")
    for marker, content in (
        (0xE2, b"MPF\0" + b"MM\0*" + b"\xff" * 40),
        (0xE2, b"MPF\0"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\0\1"),
        (0xFE, b"\xff\xfe"),
        (0xE1, b"Exif\0\0"),
    ):
        segment = bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
        assert same(data[:2] + segment * 2 + data[2:], "JPEG", 1)


def test_other_metadata_cannot_fail_a_png():
    png = encoded(PICTURE, "PNG")
    bomb = zlib.compress(bytes(80 << 20))
    for chunk in (
        png_chunk(b"zTXt", b"Comment\0\0" + bomb),
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb),
        png_chunk(b"iCCP", b"x\0\0" + bomb),
        png_chunk(b"tIME", b"")[:-4] + b"\0\0\0\0",
        png_chunk(b"prVt", b"\0"),
        png_chunk(b"pHYs", b"\0"),
    ):
        assert same(png[:33] + chunk + png[33:], "PNG", 1)


def test_a_damaged_name_of_a_chunk_that_matters_is_not_taken_for_metadata():
    stream = io.BytesIO()
    PICTURE.convert("P", palette=Image.Palette.ADAPTIVE).save(stream, "PNG")
    data = stream.getvalue()
    assert b"PLTE" in data
    with pytest.raises(ImageError, match="damaged or truncated"):
        load_rgb("a.png", data.replace(b"PLTE", b"pLTE"))


def test_pixels_that_are_cut_off_are_refused_whatever_the_metadata():
    for form in FORMS:
        data = file_with(form, [orientation_tag(6), Tag(0x0128, 1, 1, b"\2\0\0\0")])
        with pytest.raises(ImageError, match=r"a\.jpg: .*truncated"):
            load_rgb("a.jpg", data[: len(data) * 6 // 10])
    cut = tiff_with(PICTURE, [orientation_tag(6)])[:-1]
    with pytest.raises(ImageError, match="truncated"):
        load_rgb("a.tif", cut)


def test_a_tiff_file_of_several_pages_is_refused_and_a_loop_is_one_page():
    data = tiff_with(PICTURE, [])
    assert same(tiff_with(PICTURE, [], after=8), "TIFF", 1)
    directory = data[8 : 8 + 2 + 12 * 9 + 4]
    two = tiff_with(PICTURE, [], after=len(data)) + directory
    with pytest.raises(ImageError, match="a file of 2 pages"):
        load_rgb("a.tif", two)
    chain = b"".join(struct.pack("<HI", 0, len(data) + 6 * (index + 1)) for index in range(5000))
    with pytest.raises(ImageError, match="a file of 1000 pages"):
        load_rgb("a.tif", tiff_with(PICTURE, [], after=len(data)) + chain)
    with pytest.raises(ImageError, match="damaged"):
        load_rgb("a.tif", tiff_with(PICTURE, [], after=2**30))


def test_tiff_files_of_pillow_are_read_as_pillow_reads_them():
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        for mode, big in (("RGB", False), ("P", False), ("L", True), ("1", False), ("RGB", True)):
            if compression == "jpeg" and mode in ("P", "1"):
                continue
            stream = io.BytesIO()
            exif = Image.Exif()
            exif[ORIENTATION] = 6
            PICTURE.convert(mode).save(stream, "TIFF", compression=compression, exif=exif, big_tiff=big)
            with Image.open(stream) as image:
                image.load()
                expected = np.asarray(image.convert("RGB"))
            assert (pixels(stream.getvalue()) == expected).all()


def test_a_time_is_read_past_odd_tags(tmp_path):
    text = b"2026:11:25 17:30:15\0"
    start = 8 + 2 + 24 + 4
    below = struct.pack("<HHHII", 1, 0x9003, 2, len(text), start + 18) + struct.pack("<I", 0) + text
    tags = [Tag(0x0128, 1, 1, b"\2\0\0\0"), Tag(0x8769, 4, 1, struct.pack("<I", start))]
    (tmp_path / "a.jpg").write_bytes(with_exif(PICTURE, "JPEG", exif_block(tags, rest=below)))
    noon = 1_795_627_815_000_000  # date -u -d '2026-11-25 17:30:15' +%s
    assert exif_time(tmp_path / "a.jpg") == noon
    with Image.open(tmp_path / "a.jpg") as image:
        assert exif_time(image) == noon
