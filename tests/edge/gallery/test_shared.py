"""Rows as stores accept them."""

from __future__ import annotations

import dataclasses

import numpy as np

from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.shared import accepted_rows, row_check


def test_texts_of_numpy_become_plain_texts_with_the_same_checksum():
    plain = NewRow("a.jpg", "0" * 64, camera="dock", person="3", track="t", label="Ann", source="box")
    texts = {"path", "sha256", "camera", "person", "track", "label", "source"}
    of_numpy = dataclasses.replace(plain, **{name: np.str_(getattr(plain, name)) for name in texts})
    (found,) = accepted_rows([of_numpy])
    assert found == plain
    assert {type(getattr(found, name)) for name in texts} == {str}
    assert row_check(GalleryRow(**vars(found), id=1)) == row_check(GalleryRow(**vars(plain), id=1))
    assert row_check(GalleryRow(**vars(of_numpy), id=1)) != row_check(GalleryRow(**vars(plain), id=1))


def test_whole_numbers_of_numpy_become_text_and_python_numbers():
    (found,) = accepted_rows(
        [NewRow(None, camera=np.int64(3), person=np.uint8(7), time=np.int32(5), frame=np.int16(2))]
    )
    assert (found.camera, found.person, found.time, found.frame) == ("3", "7", 5, 2)
    assert {type(found.time), type(found.frame)} == {int}
