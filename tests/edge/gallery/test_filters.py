"""Filters of rows: names of any form, and refused values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, NewRow, SearchFilter


@pytest.mark.parametrize("cameras", [{3, "lobby"}, [np.int64(3), "lobby"], ("3", "lobby"), frozenset({"3", "lobby"})])
def test_cameras_are_names_or_whole_numbers(cameras: Any):
    found = SearchFilter(cameras, not_cameras=cameras)
    assert found == SearchFilter(frozenset({"3", "lobby"}), frozenset({"3", "lobby"}))
    assert hash(found) == hash(SearchFilter(frozenset({"3", "lobby"}), frozenset({"3", "lobby"})))
    assert SearchFilter(cameras).passes(NewRow("a.jpg", camera="3"))
    assert not SearchFilter(cameras).passes(NewRow("a.jpg", camera="33"))


def test_one_name_is_not_its_letters():
    name: Any = "lobby"
    assert SearchFilter(name, sources=name) == SearchFilter(frozenset({"lobby"}), sources=frozenset({"lobby"}))
    assert {type(camera) for camera in SearchFilter(frozenset({np.str_("lobby")})).cameras} == {str}
    number: Any = 3
    assert SearchFilter(number).cameras == frozenset({"3"})


def test_rows_are_left_out_by_id():
    ids: Any = [np.int64(3)]
    assert SearchFilter(not_ids=ids) == SearchFilter(not_ids=frozenset({3}))
    assert not SearchFilter(not_ids=ids).passes(GalleryRow(None, id=3))
    assert SearchFilter(not_ids=ids).passes(GalleryRow(None, id=4))


def test_bounds_are_whole_numbers():
    since: Any = np.int64(5)
    assert SearchFilter(since=since) == SearchFilter(since=5)
    assert type(SearchFilter(since=since).since) is int


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cameras", {None}), ("cameras", {1.5}), ("cameras", [True]), ("not_cameras", {b"lobby"}), ("sources", {None}),
        ("since", 1.5), ("since", float("nan")), ("until", "2026-11-25"), ("since_frame", True), ("until_frame", "9"),
        ("not_ids", {"3"}), ("not_ids", {True}),
    ],
)  # fmt: skip
def test_other_values_are_refused_in_one_line(field, value):
    with pytest.raises(UsageError, match=rf"^{field} .*: expected ") as caught:
        SearchFilter(**{field: value})
    assert caught.value.parameters == (field,)
    assert "\n" not in caught.value.message
