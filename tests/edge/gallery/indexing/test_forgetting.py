"""Forgetting crops by path and by person. If one of them is unknown, nothing is removed."""

from __future__ import annotations

import pytest

from rrid_edge.errors import UsageError
from rrid_edge.gallery.indexing.forgetting import forget_crops
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, rows, vectors


@pytest.fixture
def gallery(tmp_path):
    with LocalGallery.create(tmp_path / "g", SPEC) as store:
        store.add(rows(30), vectors(30))
        yield store


def test_crops_and_a_person_are_forgotten_together(gallery, tmp_path):
    person = "0004"
    of_person = {row.path for row in rows(30) if row.person == person}
    named = [rows(30)[0].path, min(of_person)]
    assert len(of_person) > 1
    assert forget_crops(gallery, named, person) == len(of_person) + 1
    assert {row.path for row in gallery.rows()} == {row.path for row in rows(30)} - of_person - set(named)
    assert vectors(30).astype("<f2")[0].tobytes() not in (tmp_path / "g" / "vec.0.f16").read_bytes()


@pytest.mark.parametrize(
    ("paths", "person", "message", "parameters"),
    [
        ((), None, "nothing to forget: give paths of crops or a person", ("paths", "person")),
        (("none.jpg",), None, r"none\.jpg: not in the index \(1 such paths\)", ("paths",)),
        (("a/00000.jpg", "none.jpg"), "0004", r"none\.jpg: not in the index", ("paths",)),
        (("a/00000.jpg",), "nobody", "person 'nobody' is not in the index", ("person",)),
    ],
)
def test_unknown_crops_are_refused_and_nothing_is_removed(gallery, paths, person, message, parameters):
    with pytest.raises(UsageError, match=message) as refusal:
        forget_crops(gallery, paths, person)
    assert refusal.value.parameters == parameters
    assert gallery.info().rows == 30
