"""Thumbnails of rows without files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from rrid_edge.errors import ImageError
from rrid_edge.gallery.library import Gallery
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise


@pytest.fixture
def gallery() -> Gallery:
    return Gallery(MemoryStore(SPEC), writable=True)


def _jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def test_thumbnails_of_every_kind_are_small_jpegs(gallery):
    picture = noise(5, 512, 256)
    array = np.asarray(picture)
    ids = gallery.add(vectors(5), thumbnails=[picture, array, _jpeg(picture), None, array[:, :, ::-1][:, :, ::-1]])
    found = gallery.thumbnails(ids)
    assert sorted(found) == [ids[0], ids[1], ids[2], ids[4]]
    for data in found.values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert image.size == (80, 160)
            mean = np.asarray(image, np.float64).mean((0, 1))
            assert np.abs(mean - array.mean((0, 1))).max() < 3
        assert len(data) < 8000
    assert all(row.thumbnail is None for row in gallery)


def test_a_small_jpeg_is_kept_as_it_is(gallery):
    small = _jpeg(noise(5, 128, 64))
    (key,) = gallery.add(vectors(1), thumbnails=small)
    assert gallery.thumbnails(key) == {key: small}


def test_arrays_of_bgr_become_thumbnails_of_the_right_colour(gallery):
    red = np.zeros((2, 40, 20, 3), np.uint8)
    red[..., 2] = 255
    ids = gallery.add(vectors(2), thumbnails=red, color="bgr")
    for data in gallery.thumbnails(ids).values():
        with Image.open(io.BytesIO(data)) as image:
            pixel = image.getpixel((10, 20))
        assert pixel[0] > 240
        assert max(pixel[1:]) < 15


@pytest.mark.parametrize("data", [b"", b"no picture", _jpeg(noise(1))[:400]])
def test_a_damaged_thumbnail_stores_nothing(gallery, data):
    with pytest.raises(ImageError, match="thumbnail 1: "):
        gallery.add(vectors(2), thumbnails=[_jpeg(noise(2)), data])
    assert len(gallery) == 0
