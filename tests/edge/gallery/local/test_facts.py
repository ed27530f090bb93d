"""Facts that a foreign or later program wrote: their checksum is right, and their values are not."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from rrid_edge.errors import GalleryError, UsageError
from rrid_edge.gallery.local.facts import Facts, facts_check, write_facts
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.facts import remembered_properties
from support.galleries import SPEC, rows, vectors


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    location = tmp_path_factory.mktemp("facts") / "index"
    with LocalGallery.create(location, SPEC) as store:
        store.add(rows(3), vectors(3))
    return location


def _change(location: Path, changes: Facts) -> Facts:
    """Change facts, with the right checksum; returns all of them as they were."""
    connection = sqlite3.connect(location / "meta.sqlite")
    facts = dict(connection.execute("SELECT key, value FROM info").fetchall())
    assert facts["check32"] == str(facts_check(facts))
    write_facts(connection, facts | changes)
    connection.commit()
    connection.close()
    return facts


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("generation", "zero", "generation"),
        ("generation", "4294967296", "generation"),  # the header of the vector file has 32 bits for it
        ("slots", "-1", "slots"),
        ("slots", "1.5", "slots"),
        ("slots", "\u0663", "slots"),  # an Arabic three
        ("slots", "9" * 5000, "slots"),
        ("rows", "", "rows"),
        ("total", "1e3", "total"),
        ("next_id", "many", "next_id"),
        ("commit", "x-y", "commit"),
        ("dtype", "float64", "dtype"),
        ("dtype", "", "dtype"),
        ("retention_s", "soon", "retention_s"),
        ("digest_key", "00", "digest_key"),
        ("kept_out", "none", "kept_out"),
        ("format", "\u00b2", "format"),
        ("format", "x" * 900, "format"),
        ("spec", "{}", "spec"),
        ("spec", "3", "spec"),
        ("spec", "[" * 99_999, "spec"),
        ("spec", json.dumps(SPEC.to_metadata() | {"rrid.height_px": "1000000000"}), "height_px"),
        ("spec", json.dumps(SPEC.to_metadata() | {"rrid.height_px": 192}), "Expected str, got int at an entry"),
    ],
    ids=lambda value: value[:20] or "empty" if isinstance(value, str) else None,
)
def test_facts_of_wrong_types_are_refused_by_name(index, key, value, reason):
    before = _change(index, {key: value})
    try:
        for write in (False, True):
            with pytest.raises(GalleryError) as caught, LocalGallery(index, write=write) as store:
                store.rows()
            assert caught.value.message.startswith(f"{index}: ")
            assert reason in caught.value.message
            assert len(caught.value.message) < 500 + len(str(index))
    finally:
        _change(index, before)
    with LocalGallery(index) as store:
        assert store.verify().sound


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{" * 9_999, "3", '{"dimensions": 8}', '{"dimensions": 0, "rows": 1, "fitted_on": 1, "crc32": 1}'],
    ids=lambda value: value[:20] or "empty",
)
def test_a_damaged_record_of_the_bounds_costs_only_the_bounds(index, text):
    assert ProjectionFacts.from_json(text) is None
    before = _change(index, {"projection": text})
    with LocalGallery(index) as store:
        assert len(store.search(vectors(3), 3).hits[0]) == 3
    _change(index, before)


def test_facts_of_other_types_in_the_table_are_damage(index, tmp_path):
    """SQLite stores any type in any column."""
    connection = sqlite3.connect(index / "meta.sqlite")
    saved = connection.execute("SELECT key, value FROM info").fetchall()
    connection.execute("UPDATE info SET value = x'ff' WHERE key = 'rows'")
    connection.execute("UPDATE info SET key = x'ff' WHERE key = 'model'")
    connection.execute("UPDATE info_copy SET body = x'ff'")
    connection.commit()
    try:
        with pytest.raises(GalleryError, match="both copies of the gallery's facts are damaged"):
            LocalGallery(index)
    finally:
        connection.execute("DELETE FROM info")
        connection.executemany("INSERT INTO info VALUES (?, ?)", saved)
        write_facts(connection, dict(saved))
        connection.commit()
        connection.close()


def test_a_model_whose_name_is_no_utf8_is_remembered_and_mended_from_the_copy(tmp_path):
    location = tmp_path / "index"
    with LocalGallery.create(location, SPEC) as store:
        store.remember({"model": "models/\udcff.onnx"})
    connection = sqlite3.connect(location / "meta.sqlite")
    connection.execute("DELETE FROM info WHERE key = 'model'")
    connection.commit()
    connection.close()
    with LocalGallery(location, write=True) as store:
        assert store.info().model == "models/\udcff.onnx"


def test_half_a_surrogate_pair_is_no_name_of_a_model(tmp_path):
    with LocalGallery.create(tmp_path / "index", SPEC) as store:
        with pytest.raises(UsageError, match="no Unicode text"):
            store.remember({"model": "\ud800"})
        assert store.verify().sound
    with pytest.raises(UsageError, match="Milvus cannot store it"):
        remembered_properties({"model": "\udcff"})


@pytest.mark.parametrize("seconds", ["0", "-1", "060", "1.5", "9" * 19, "\u0663"])
def test_only_what_can_be_read_again_is_remembered(tmp_path, seconds):
    with LocalGallery.create(tmp_path / "index", SPEC) as store, pytest.raises(UsageError, match="retention"):
        store.remember({"retention_s": seconds})
