"""Opening for writing without looking for damage, as a service does that writes often."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from rrid_edge.gallery.opening import create_store, open_store
from support.galleries import SPEC, rows, vectors


@pytest.fixture
def damaged(tmp_path):
    """An index of six rows, one of them with a changed camera, and a vector file with a cut-off append."""
    with create_store(tmp_path, SPEC) as store:
        store.add(rows(6), vectors(6))
    with contextlib.closing(sqlite3.connect(tmp_path / "meta.sqlite")) as connection, connection:
        connection.execute("UPDATE row SET camera = x'39' WHERE slot = 2")
    (vector_file,) = tmp_path.glob("vec.*")
    with vector_file.open("ab") as file:
        file.write(bytes(33))
    return tmp_path, vector_file


def test_damage_stays_and_what_a_kill_left_is_put_right(damaged):
    folder, vector_file = damaged
    size = vector_file.stat().st_size
    with open_store(folder, write=True, check=False) as store:
        assert vector_file.stat().st_size == size - 33
        assert len(store.rows()) == 5  # a damaged entry is never given out
        store.add(rows(2, start=10), vectors(2))
        assert len(store.rows()) == 7
    with open_store(folder) as store:
        assert not store.verify().sound
    with open_store(folder, write=True) as store:
        assert store.info().rows == 7
        assert store.verify().entries == 0
