"""The optional decoder of JPEG files: its pixels are Pillow's, and every doubt is left to Pillow."""

from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops import fast_jpeg
from rrid_edge.crops.fast_jpeg import decoding_finding, fast_decoder, plain_size
from rrid_edge.crops.images import MAX_PIXELS, MIN_SIDE_PX, load_rgb, read_image_bytes, resize
from rrid_edge.errors import ImageError
from rrid_edge.machine.gpu import Gpu

PLAIN: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "worst": {"quality": 1},
    "best": {"quality": 100},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_blocks": 2},
    "comment": {"comment": b"of a camera"},
    "resolution": {"dpi": (300, 300)},
    "profile": {"icc_profile": bytes(300)},
}


def noise(width_px=45, height_px=70, mode="RGB"):
    shape = (height_px, width_px, len(Image.new(mode, (1, 1)).getbands()))
    values = np.random.default_rng(width_px).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values[:, :, 0] if mode == "L" else values, mode if mode == "CMYK" else None)


def jpeg(image=None, **options):
    stream = io.BytesIO()
    (image or noise()).save(stream, "JPEG", **options)
    return stream.getvalue()


def as_pillow(content):
    return resize(load_rgb("crop.jpg", content), 96, 32)


def outcome(read, content):
    try:
        return read(content).tobytes()
    except ImageError as error:
        return error.message


def cut(content, marker, replacement):
    """``content`` with the first segment of ``marker`` replaced."""
    at = content.index(bytes((0xFF, marker)))
    return content[:at] + replacement + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]


@pytest.fixture
def decoder(monkeypatch):
    """Installs a module of the package's name, and forgets what was found before and after."""

    def install(module):
        monkeypatch.setitem(sys.modules, fast_jpeg.PACKAGE, module)
        fast_decoder.cache_clear()

    yield install
    fast_decoder.cache_clear()


def module(decode):
    made = ModuleType(fast_jpeg.PACKAGE)
    made.__version__ = "1.0"  # type: ignore[attr-defined]
    made.decode_jpeg = lambda content, _colours, **_options: decode(content)  # type: ignore[attr-defined]
    return made


def pillow_pixels(content, asked=None):
    if asked is not None:
        asked.append(content)
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_decoded_to_the_pixels_of_pillow(name):
    pytest.importorskip(fast_jpeg.PACKAGE)
    assert fast_decoder().decode is not None
    for size in ((45, 70), (8, 8), (64, 128), (33, 17)):
        content = jpeg(noise(*size), **PLAIN[name])
        np.testing.assert_array_equal(read_image_bytes(content, "crop.jpg", 96, 32), as_pillow(content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_turned(orientation):
    pytest.importorskip(fast_jpeg.PACKAGE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = jpeg(exif=exif)
    np.testing.assert_array_equal(read_image_bytes(content, "crop.jpg", 96, 32), as_pillow(content))


def test_plain_files_go_to_the_decoder(decoder):
    asked: list[bytes] = []
    decoder(module(lambda content: pillow_pixels(content, asked)))
    assert fast_decoder().decode is not None
    for options in PLAIN.values():
        asked.clear()
        read_image_bytes(jpeg(**options), "crop.jpg", 96, 32)
        assert len(asked) == 1, options


def doubtful():
    sound = jpeg()
    frame = sound.index(b"\xff\xc0")
    sampled = sound[: frame + 11] + b"\x41" + sound[frame + 12 :]
    twelve = sound[: frame + 4] + b"\x0c" + sound[frame + 5 :]
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    return {
        "progressive": jpeg(progressive=True),
        "grey": jpeg(noise(mode="L")),
        "CMYK": jpeg(noise(mode="CMYK")),
        "RGB": jpeg(keep_rgb=True),
        "Adobe RGB": cut(sound, 0xE0, adobe + b"\x00"),
        "4:1:1": sampled,
        "12 bits": twelve,
        "arithmetic": sound.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "extended": sound.replace(b"\xff\xc0", b"\xff\xc1", 1),
        "two frames": sound[:frame] + sound[frame : frame + 19] + sound[frame:],
        "16-bit quantiser": cut(sound, 0xDB, b"\xff\xdb\x00\x83\x10" + bytes(range(1, 129))),
        "filled marker": sound[:2] + b"\xff" + sound[2:],
        "first scan of three": sound.replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x08\x01"),
        "cut in the header": sound[:100],
        "no JPEG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "narrow": jpeg(noise(7, 70)),
    }


def test_every_doubt_is_left_to_pillow(decoder):
    asked: list[bytes] = []
    decoder(module(lambda content: pillow_pixels(content, asked)))
    assert fast_decoder().decode is not None
    asked.clear()
    for name, content in doubtful().items():
        found = outcome(lambda data: read_image_bytes(data, "crop.jpg", 96, 32), content)
        assert found == outcome(as_pillow, content), name
        assert asked == [], name


def test_an_adobe_marker_of_ycbcr_is_plain():
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
    assert plain_size(cut(jpeg(), 0xE0, adobe)) == (70, 45)


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
def test_truncated_files_are_refused_as_by_pillow(keep):
    content = jpeg()
    content = content[: int(len(content) * keep)]
    with pytest.raises(ImageError) as expected:
        as_pillow(content)
    with pytest.raises(ImageError) as refusal:
        read_image_bytes(content, "crop.jpg", 96, 32)
    assert refusal.value.message == expected.value.message


def test_a_decoder_that_fails_leaves_the_file_to_pillow(decoder):
    def decode(content):
        if content == bad:
            raise ValueError("Premature end of JPEG file")
        return pillow_pixels(content)

    bad = jpeg(noise(50, 60))
    decoder(module(decode))
    assert fast_decoder().decode is not None
    np.testing.assert_array_equal(read_image_bytes(bad, "crop.jpg", 96, 32), as_pillow(bad))


def test_a_decoder_with_other_pixels_is_not_used(decoder):
    decoder(module(lambda content: np.minimum(pillow_pixels(content), 254)))
    assert fast_decoder().decode is None
    np.testing.assert_array_equal(read_image_bytes(jpeg(), "crop.jpg", 96, 32), as_pillow(jpeg()))
    finding = decoding_finding()
    assert (finding.state, finding.detail) == ("note", "1.0 is not used: its pixels differ from Pillow's")


def test_without_the_package_pillow_decodes(decoder, monkeypatch):
    decoder(None)
    assert fast_decoder().decode is None
    np.testing.assert_array_equal(read_image_bytes(jpeg(), "crop.jpg", 96, 32), as_pillow(jpeg()))
    for gpu, expected in (
        (Gpu("none", "x86_64"), ("ok", "")),  # engines on a CPU are slower than Pillow
        (Gpu("server", "x86_64", "580.65.06", (13, 0)), ("missing", "pip install 'rrid-edge[fast]'")),
    ):
        monkeypatch.setattr("rrid_edge.machine.gpu.this_gpu", lambda gpu=gpu: gpu)
        finding = decoding_finding()
        assert (finding.state, finding.remedy) == expected


def test_the_limits_lie_within_those_of_the_image_contract():
    assert fast_jpeg.MIN_SIDE_PX == MIN_SIDE_PX
    assert fast_jpeg.MAX_PIXELS <= MAX_PIXELS
    frame = jpeg().index(b"\xff\xc0")
    sides = {(4000, 4000): (4000, 4000), (4001, 4000): None, (7, 4000): None, (4000, 0): None}
    for (height_px, width_px), size in sides.items():
        told = height_px.to_bytes(2, "big") + width_px.to_bytes(2, "big")
        assert plain_size(jpeg()[: frame + 5] + told + jpeg()[frame + 9 :]) == size
